package natsqueue

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Ensure implements queue.Admin. It waits for a cluster that is not ready, as
// long as ctx allows.
func (q *Queue) Ensure(ctx context.Context, streams ...queue.Stream) error {
	for _, s := range streams {
		s, err := s.Normal()
		if err != nil {
			return err
		}
		for _, cfg := range []jetstream.StreamConfig{q.streamConfig(s), q.deadConfig(s)} {
			if err := q.ensure(ctx, cfg); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensure creates or updates one stream. Of nodes that create it at once, those
// that come second find the same configuration and succeed.
func (q *Queue) ensure(ctx context.Context, cfg jetstream.StreamConfig) error {
	for failures := 1; ; failures++ {
		try, cancel := context.WithTimeout(ctx, min(q.cfg.Timeout, 2*time.Second)) // clusters lose requests at their start
		_, err := q.js.CreateOrUpdateStream(try, cfg)
		cancel()
		switch err = translate(err); {
		case err == nil || !fault.Of(err).Kind.Retryable():
			return err
		case fault.CodeOf(err) == "queue_full":
			return fault.Wrap(fault.Unavailable, err, "the queue's servers have no room for stream %s, which reserves %d MiB on %d of them: raise max_file_store, or nats.max_store of the server in this process",
				cfg.Name, cfg.MaxBytes>>20, max(cfg.Replicas, 1)).WithCode("queue_full")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(reconnectDelay(failures)):
		}
	}
}

func (q *Queue) streamConfig(s queue.Stream) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name: s.Name, Storage: jetstream.FileStorage, Replicas: cmp.Or(s.Replicas, q.cfg.Replicas),
		Discard: jetstream.DiscardNew, MaxBytes: s.MaxBytes, MaxMsgs: s.MaxMessages, MaxAge: s.MaxAge,
		MaxMsgSize: int32(s.MaxMessageBytes + queue.Overhead/2), Duplicates: s.Duplicates, MaxConsumers: -1,
	}
	for _, subject := range s.Subjects {
		cfg.Subjects = append(cfg.Subjects, "q.*."+subject)
	}
	if s.Retention == queue.Work {
		cfg.Retention = jetstream.WorkQueuePolicy
	}
	if s.Discard == queue.Oldest {
		cfg.Discard = jetstream.DiscardOld
	}
	return cfg
}

// deadConfig is the stream of the dead letters: the newest of each subject.
func (q *Queue) deadConfig(s queue.Stream) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: deadStream(s.Name), Storage: jetstream.FileStorage, Replicas: cmp.Or(s.Replicas, q.cfg.Replicas),
		Subjects: []string{deadPrefix(s.Name) + ">"}, Discard: jetstream.DiscardNew, MaxBytes: s.MaxBytes,
		MaxMsgs: s.MaxMessages, MaxMsgsPerSubject: 1, MaxMsgSize: -1, Duplicates: time.Second, MaxConsumers: -1,
	}
}

func deadStream(name string) string { return name + "_DEAD" }
func deadPrefix(name string) string { return "dead." + name + "." }

// filters returns the server's subjects for the patterns in the lane, or in
// all lanes if that is below 0.
func filters(patterns []string, lane int) []string {
	prefix := "q.*."
	if lane >= 0 {
		prefix = lanePrefix(lane)
	}
	if len(patterns) == 0 {
		return []string{prefix + ">"}
	}
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = prefix + p
	}
	return out
}
