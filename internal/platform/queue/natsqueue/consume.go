package natsqueue

import (
	"context"
	"errors"
	"strconv"
	"sync"
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
	sources := q.sources(c)
	// A wrong configuration shows at once; a server that is away is waited for.
	if err := openAll(ctx, sources); err != nil {
		closeAll(sources)
		return err
	}
	dispatch.Run(ctx, dispatch.Job{
		Consumer: c, Handle: handle, Sources: sources, Bury: q.bury,
		Metrics: q.cfg.Metrics.Consumer(c.Name), Log: q.cfg.Log,
	})
	return nil
}

// sources returns one for each lane, or one for each handler.
func (q *Queue) sources(c queue.Consumer) []dispatch.Source {
	var list []dispatch.Source
	if c.Ordered {
		for lane := range queue.MaxLanes {
			list = append(list, &source{durable: &durable{q: q, stream: c.Stream, cfg: laneConfig(c, lane)}})
		}
		return list
	}
	shared := &durable{q: q, stream: c.Stream, cfg: consumerConfig(c)}
	for range c.Concurrency {
		list = append(list, &source{durable: shared})
	}
	return list
}

// openAll opens the sources at once. It returns an error that would not pass.
func openAll(ctx context.Context, sources []dispatch.Source) error {
	errs := make([]error, len(sources))
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() { errs[i] = s.(*source).open(ctx) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil && !fault.Of(err).Kind.Retryable() {
			return err
		}
	}
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
	durable  *durable
	messages jetstream.MessagesContext // nil until it is open
}

// open makes sure of the durable consumer and starts to pull from it.
func (s *source) open(ctx context.Context) error {
	if s.messages != nil {
		return nil
	}
	c, err := s.durable.get(ctx)
	if err != nil {
		return err
	}
	s.messages, err = c.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(2*time.Second))
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
		s.durable.forget()
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
		Attempt: int(min(meta.NumDelivered, 1<<30)),
		Lease:   lease{q: s.durable.q, m: m},
	}, nil
}

// Close implements dispatch.Source. A message may be on its way to a source
// that does not wait for it any more; it is given back at once.
func (s *source) Close() {
	if s.messages == nil {
		return
	}
	s.messages.Drain()
	for {
		m, err := s.messages.Next(jetstream.NextMaxWait(time.Second))
		if err != nil {
			break
		}
		_ = m.NakWithDelay(time.Millisecond) // else its lease runs out
	}
	s.messages.Stop()
	s.messages = nil
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
