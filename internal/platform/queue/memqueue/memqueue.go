// Package memqueue is the queue in memory, for tests of what uses one. It
// promises what natsqueue does and passes the same suite. Its timers run on
// package time, so that they can be tested with testing/synctest.
//
// Known limits: nothing survives the process, all operations share one lock,
// and every operation on a consumer looks at all its open deliveries.
package memqueue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Config says how the queue reports. The zero value reports nothing.
type Config struct {
	Metrics *queue.Metrics
	Log     *slog.Logger
}

// Queue is a queue in memory. It needs no closing.
type Queue struct {
	cfg Config

	mu      sync.Mutex
	streams map[string]*stream
	changed chan struct{} // closed, and replaced, whenever something may have become deliverable
}

var _ queue.Queue = (*Queue)(nil)

// New returns an empty queue.
func New(cfg Config) (*Queue, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		m, err := queue.NewMetrics(nil)
		if err != nil {
			return nil, err
		}
		cfg.Metrics = m
	}
	return &Queue{cfg: cfg, streams: map[string]*stream{}, changed: make(chan struct{})}, nil
}

// Healthy implements queue.Admin.
func (q *Queue) Healthy(ctx context.Context) error { return ctx.Err() }

// Ensure implements queue.Admin.
func (q *Queue) Ensure(_ context.Context, streams ...queue.Stream) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, cfg := range streams {
		cfg, err := cfg.Normal()
		if err != nil {
			return err
		}
		if s := q.streams[cfg.Name]; s == nil {
			q.streams[cfg.Name] = newStream(cfg)
		} else if s.cfg.Retention != cfg.Retention {
			return fault.New(fault.Conflict, "stream %s exists with another retention, which cannot be changed; use another name", cfg.Name).WithCode("queue_config_conflict")
		} else {
			s.cfg = cfg
		}
	}
	return nil
}

// Publish implements queue.Publisher.
func (q *Queue) Publish(ctx context.Context, messages ...queue.Message) error {
	began := time.Now()
	q.mu.Lock()
	err := queue.Waves(messages, func(wave []int) []error {
		errs := make([]error, len(wave))
		for j, i := range wave {
			if errs[j] = ctx.Err(); errs[j] == nil {
				errs[j] = q.put(messages[i])
			}
		}
		return errs
	})
	q.notify()
	q.mu.Unlock()
	q.cfg.Metrics.Published(len(messages), err, time.Since(began).Seconds())
	return err
}

// put stores one message in the stream of its subject. Callers hold the lock.
func (q *Queue) put(m queue.Message) error {
	for _, s := range q.streams {
		if queue.MatchesAny(s.cfg.Subjects, m.Subject) {
			return s.put(m)
		}
	}
	return fault.New(fault.Unavailable, "no stream takes the subject %s; set one up for it", m.Subject).WithCode("queue_unavailable")
}

// notify wakes all who wait. Callers hold the lock.
func (q *Queue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// wait waits for a change, for at most d if that is above 0.
func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	var expired <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-changed:
	case <-expired:
	case <-ctx.Done():
	}
}

// stream returns a stream by name. Callers hold the lock.
func (q *Queue) stream(name string) (*stream, error) {
	if s := q.streams[name]; s != nil {
		s.expire(time.Now())
		return s, nil
	}
	return nil, fault.New(fault.NotFound, "there is no stream %q", name).WithCode("stream_not_found")
}
