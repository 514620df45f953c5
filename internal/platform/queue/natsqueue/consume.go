package natsqueue

import (
	"context"
	"strconv"
	"sync"

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
			list = append(list, &source{&puller{durable: &durable{q: q, stream: c.Stream, cfg: laneConfig(c, lane)}}, c.Repeatable})
		}
		return list
	}
	shared := &puller{durable: &durable{q: q, stream: c.Stream, cfg: consumerConfig(c)}}
	for range c.Concurrency {
		list = append(list, &source{shared, c.Repeatable})
	}
	return list
}

// openAll opens the sources at once. It returns an error that would not pass.
func openAll(ctx context.Context, sources []dispatch.Source) error {
	errs := make([]error, len(sources))
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() { errs[i] = s.(*source).puller.open(ctx) })
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
