package natsqueue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/dispatch"
)

// Consume implements queue.Consuming.
func (q *Queue) Consume(ctx context.Context, c queue.Consumer, handle queue.Handler) error {
	c, err := c.Normal()
	if err != nil {
		return err
	}
	sources := make([]dispatch.Source, 0, c.Concurrency)
	if c.Ordered {
		for lane := range queue.MaxLanes {
			sources = append(sources, &source{q: q, stream: c.Stream, cfg: laneConfig(c, lane)})
		}
	} else {
		for range c.Concurrency {
			sources = append(sources, &source{q: q, stream: c.Stream, cfg: consumerConfig(c)})
		}
	}
	// A wrong configuration shows at once; a server that is away is waited for.
	for _, s := range sources {
		if err := s.(*source).open(ctx); err != nil && !fault.Of(err).Kind.Retryable() {
			closeAll(sources)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // stopped before it began
			}
			return err
		}
	}
	dispatch.Run(ctx, dispatch.Job{
		Consumer: c, Handle: handle, Sources: sources, Bury: q.bury,
		Metrics: q.cfg.Metrics.Consumer(c.Name), Log: q.cfg.Log,
	})
	return nil
}

func closeAll(sources []dispatch.Source) {
	for _, s := range sources {
		s.Close()
	}
}

// consumerConfig is the durable consumer of all subjects. Deliveries are
// unlimited, because the server leaves a message lying at the limit.
func consumerConfig(c queue.Consumer) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: c.Name, FilterSubjects: filters(c.Filters, -1),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.Lease, MaxDeliver: -1, MaxAckPending: 10_000,
	}
}

// laneConfig is the durable consumer of one lane. With one message out, which
// includes one that waits to be tried again, nothing overtakes it.
func laneConfig(c queue.Consumer, lane int) jetstream.ConsumerConfig {
	cfg := consumerConfig(c)
	cfg.Durable += "-lane" + strconv.Itoa(lane)
	cfg.FilterSubjects = filters(c.Filters, lane)
	cfg.MaxAckPending = 1
	return cfg
}

// source pulls one message at a time from a durable consumer.
type source struct {
	q        *Queue
	stream   string
	cfg      jetstream.ConsumerConfig
	messages jetstream.MessagesContext // nil until it is open
}

// open makes sure of the durable consumer and starts to pull from it.
func (s *source) open(ctx context.Context) error {
	if s.messages != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.q.cfg.Timeout)
	defer cancel()
	c, err := s.q.js.CreateOrUpdateConsumer(ctx, s.stream, s.cfg)
	if err != nil {
		return translate(err)
	}
	s.messages, err = c.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	return translate(err)
}

// Next implements dispatch.Source. It asks for a message only now, so that no
// lease runs while nobody works.
func (s *source) Next(ctx context.Context) (dispatch.Leased, error) {
	if err := s.open(ctx); err != nil {
		return dispatch.Leased{}, err
	}
	m, err := s.messages.Next(jetstream.NextContext(ctx))
	if errors.Is(err, jetstream.ErrNoHeartbeat) || ctx.Err() == nil && err != nil {
		s.Close() // the next call begins anew, with a consumer that may have to be made again
		return dispatch.Leased{}, translate(err)
	}
	if err != nil {
		return dispatch.Leased{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return dispatch.Leased{}, translate(err)
	}
	return dispatch.Leased{
		Message: decode(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream, meta.Timestamp),
		Attempt: int(min(meta.NumDelivered, 1<<30)), //nolint:gosec // bounded
		Lease:   lease{q: s.q, m: m},
	}, nil
}

// Close implements dispatch.Source.
func (s *source) Close() {
	if s.messages != nil {
		s.messages.Stop()
		s.messages = nil
	}
}

// lease settles one delivery.
type lease struct {
	q *Queue
	m jetstream.Msg
}

// Ack implements dispatch.Lease.
func (l lease) Ack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.q.cfg.Timeout)
	defer cancel()
	return settled(l.m.DoubleAck(ctx))
}

// Retry implements dispatch.Lease. That it arrives is not confirmed; if it
// does not, the lease runs out.
func (l lease) Retry(_ context.Context, delay time.Duration) error {
	return settled(l.m.NakWithDelay(max(delay, time.Millisecond)))
}

// Extend implements dispatch.Lease.
func (l lease) Extend(context.Context) error { return settled(l.m.InProgress()) }

func settled(err error) error {
	if errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return nil // an attempt whose answer was lost
	}
	if err != nil && fault.Is(err, fault.DeadlineExceeded) {
		return disconnected(err)
	}
	return translate(err)
}
