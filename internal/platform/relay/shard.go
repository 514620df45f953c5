package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Run relays until ctx ends. Errors of the store and the queue are logged and
// tried again for ever: messages wait in the outbox meanwhile.
func (r *Relay) Run(ctx context.Context) error {
	wake := make([]chan struct{}, r.outbox.Shards())
	var all sync.WaitGroup
	for shard := range wake {
		wake[shard] = make(chan struct{}, 1)
		all.Go(func() { r.serve(ctx, shard, wake[shard]) })
	}
	for {
		select {
		case <-r.outbox.Changed():
			for _, w := range wake {
				select {
				case w <- struct{}{}:
				default:
				}
			}
		case <-ctx.Done():
			all.Wait()
			return nil
		}
	}
}

// serve relays a shard whenever this process has its lease.
func (r *Relay) serve(ctx context.Context, shard int, wake <-chan struct{}) {
	name := repo.LeaseName("relay-" + strconv.Itoa(shard))
	for ctx.Err() == nil {
		lease, err := r.store.Acquire(ctx, name, r.cfg.Owner, r.cfg.Lease)
		if err == nil {
			err = lease.Hold(ctx, r.cfg.Lease, func(ctx context.Context) error {
				r.relay(ctx, shard, wake)
				return nil
			})
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "the relay cannot take its part of the outbox", "shard", shard, "error", err)
		}
		sleep(ctx, r.cfg.Lease/4+rand.N(r.cfg.Lease/4), nil)
	}
}

// relay publishes what is pending, and whatever comes.
func (r *Relay) relay(ctx context.Context, shard int, wake <-chan struct{}) {
	r.republish(ctx, shard)
	trimmed := r.store.Now()
	failures := 0
	for ctx.Err() == nil {
		n, err := r.publish(ctx, shard)
		switch {
		case err != nil && ctx.Err() == nil:
			failures++
			r.metrics.failures.Inc()
			if failures == 1 || failures%64 == 0 {
				r.cfg.Log.WarnContext(ctx, "messages wait in the outbox: they cannot be published", "shard", shard, "failures", failures, "error", err)
			}
			sleep(ctx, backoff(failures, err), nil)
		case n == 0:
			sleep(ctx, r.cfg.Poll, wake)
			failures = 0
		default:
			if failures > 0 {
				r.cfg.Log.InfoContext(ctx, "messages are published again", "shard", shard)
			}
			failures = 0
		}
		if now := r.store.Now(); now.Sub(trimmed) > r.cfg.Retain/10 {
			trimmed = now
			r.trim(ctx, shard)
		}
	}
}

// republish has the latest messages published again. Until it could, nothing is published:
// the next start would look for what is the latest behind what was lost. What is older than
// Retain is none of it, since the queue may not know its ids any more.
func (r *Relay) republish(ctx context.Context, shard int) {
	for failures := 1; ctx.Err() == nil; failures++ {
		n, err := r.outbox.Republish(ctx, shard, r.cfg.Again, r.store.Now().Add(-r.cfg.Retain))
		switch {
		case err == nil && n > 0:
			r.cfg.Log.InfoContext(ctx, "the latest messages are published again, in case the queue has lost them", "shard", shard, "messages", n)
			return
		case err == nil:
			return
		case ctx.Err() == nil && (failures == 1 || failures%64 == 0):
			r.cfg.Log.WarnContext(ctx, "messages wait in the outbox: the latest cannot be published again first, in case the queue has lost them", "shard", shard, "failures", failures, "error", err)
		}
		sleep(ctx, backoff(failures, err), nil)
	}
}

// trimBatch is how many messages are forgotten at a time.
const trimBatch = 1000

func (r *Relay) trim(ctx context.Context, shard int) {
	for ctx.Err() == nil {
		n, err := r.outbox.Trim(ctx, shard, r.store.Now().Add(-r.cfg.Retain), trimBatch)
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "published messages could not be removed from the outbox; it grows", "shard", shard, "error", err)
		}
		if err != nil || n < trimBatch {
			return
		}
	}
}

// maxBackoff bounds the time between attempts to publish.
const maxBackoff = 2 * time.Second

func backoff(failures int, err error) time.Duration {
	d := min(10*time.Millisecond<<min(failures, 10), maxBackoff)
	return max(d/2+rand.N(d/2), min(fault.Of(err).RetryAfter, maxBackoff))
}

// sleep waits until d is over, ctx ends, or somebody wakes it.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}
