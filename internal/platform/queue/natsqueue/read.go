package natsqueue

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/queue"
)

// Bounds implements queue.Reader.
func (q *Queue) Bounds(ctx context.Context, stream string) (queue.Bounds, error) {
	s, err := q.lookup(ctx, stream)
	if err != nil {
		return queue.Bounds{}, err
	}
	return bounds(s.CachedInfo().State), nil
}

// Created returns when a stream was made: another time, once it was lost and made
// again.
func (q *Queue) Created(ctx context.Context, stream string) (time.Time, error) {
	s, err := q.lookup(ctx, stream)
	if err != nil {
		return time.Time{}, err
	}
	return s.CachedInfo().Created, nil
}

func bounds(s jetstream.StreamState) queue.Bounds {
	if s.Msgs == 0 {
		return queue.Bounds{First: s.LastSeq + 1, Last: s.LastSeq}
	}
	return queue.Bounds{First: s.FirstSeq, Last: s.LastSeq}
}

// Read implements queue.Reader with an ordered consumer of the server, which
// is made again by the client library when it is lost.
func (q *Queue) Read(ctx context.Context, r queue.Read) iter.Seq2[queue.Message, error] {
	return func(yield func(queue.Message, error) bool) {
		if err := q.read(ctx, r, yield); err != nil && ctx.Err() == nil {
			yield(queue.Message{}, err)
		}
	}
}

// read returns nil when the caller has had enough or everything that was there
// when it began.
func (q *Queue) read(ctx context.Context, r queue.Read, yield func(queue.Message, error) bool) error {
	if err := r.Validate(); err != nil {
		return err
	}
	s, err := q.lookup(ctx, r.Stream)
	if err != nil {
		return err
	}
	b := bounds(s.CachedInfo().State)
	if err := b.Check(r.Stream, r.From); err != nil {
		return err
	}
	messages, pending, err := q.readFrom(ctx, r)
	if err != nil {
		return err
	}
	defer messages.Stop()
	for next := r.From; ; {
		all := !r.Follow && pending == 0
		if all {
			if more, err := lags(ctx, s, r.Filters, next, b.Last); !more {
				return err
			}
		}
		m, err := following(ctx, messages, all)
		if err != nil {
			return translate(err)
		}
		if m == nil {
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return translate(err)
		}
		sequence := meta.Sequence.Stream
		if sequence < max(next, b.First) { // from a replica that had not come to where it was to begin, or to discard it
			continue
		}
		if len(r.Filters) == 0 && next != 0 && sequence != next {
			if b, err := q.Bounds(ctx, r.Stream); err != nil {
				return err
			} else if b.First > next { // else it was a message that somebody removed
				return &queue.GapError{Stream: r.Stream, From: next, Bounds: b}
			}
		}
		if !yield(decode(m.Subject(), m.Headers(), m.Data(), sequence, meta.Timestamp), nil) {
			return nil
		}
		next, pending = sequence+1, meta.NumPending
	}
}

// following returns the next message. Where it is not certain to come, since it may
// expire before, it returns nil after a moment.
func following(ctx context.Context, messages jetstream.MessagesContext, uncertain bool) (jetstream.Msg, error) {
	if !uncertain {
		return messages.Next(jetstream.NextContext(ctx))
	}
	moment, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(moment))
	if err != nil && moment.Err() != nil && ctx.Err() == nil {
		return nil, nil //nolint:nilnil // as it says
	}
	return m, err
}

// lags reports whether the leader has a message for the filters between two
// sequences. A consumer reads from one replica, which may be behind what the
// leader has acknowledged, and counts as pending only what it has itself.
func lags(ctx context.Context, s jetstream.Stream, patterns []string, from, to uint64) (bool, error) {
	if s.CachedInfo().Config.Replicas < 2 || from > to {
		return false, nil
	}
	for _, subject := range filters(patterns, -1) {
		m, err := s.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(subject))
		switch {
		case err == nil && m.Sequence <= to:
			return true, nil
		case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
			return false, translate(err)
		}
	}
	return false, nil
}

// readFrom starts an ordered consumer and says how much is there for it.
func (q *Queue) readFrom(ctx context.Context, r queue.Read) (jetstream.MessagesContext, uint64, error) {
	// The library makes a lost consumer again without heeding ctx: few tries, a second
	// apart, and then it is the caller's to go on.
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: filters(r.Filters, -1), InactiveThreshold: time.Minute, MaxResetAttempts: 2}
	if r.From > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.From
	}
	setup, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	c, err := q.js.OrderedConsumer(setup, r.Stream, cfg)
	if err != nil {
		return nil, 0, settled(err)
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(256))
	return messages, c.CachedInfo().NumPending, translate(err)
}
