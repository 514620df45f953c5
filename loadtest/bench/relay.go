package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/natsqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/sqliterepo"
)

// relayRate is how many events are committed in a second.
const relayRate = 500

// lags measures the time from a message's unit of work to the queue's
// acknowledgement.
type lags struct {
	queue.Publisher
	mu    sync.Mutex
	times []time.Duration
}

// Publish publishes, and notes how late that is.
func (l *lags) Publish(ctx context.Context, messages ...queue.Message) error {
	err := l.Publisher.Publish(ctx, messages...)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range messages {
		if queue.Outcome(err, i) != nil {
			continue
		}
		if m, err := relay.Decode(&messages[i]); err == nil {
			l.times = append(l.times, now.Sub(m.Time))
		}
	}
	return err
}

// measureRelay commits events at a steady rate on SQLite, and has them relayed to
// JetStream in this process.
func measureRelay(ctx context.Context, b *bench) (err error) {
	length := 20 * time.Second
	if b.short {
		length = 4 * time.Second
	}
	store, done, err := b.openStore(ctx, "relay.db", sqliterepo.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	server, err := natsqueue.Start(ctx, filepath.Join(b.dir, "nats"), natsqueue.ServerConfig{Sync: 10 * time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	q, err := natsqueue.Open(natsqueue.Config{Server: server})
	if err != nil {
		return err
	}
	defer q.Close()
	if err := q.Ensure(ctx, queue.Stream{Name: "ALL", Subjects: []string{repo.StreamEvents + ".>", repo.StreamAudit + ".>"}}); err != nil {
		return err
	}
	l := &lags{Publisher: q}
	r, err := relay.New(store, l, relay.Config{})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { err = errors.Join(err, r.Run(running)) })
	sent, commitErr := commitSteadily(ctx, store, relayRate/2, length) // two messages each
	deadline := time.Now().Add(10 * time.Second)
	for l.count() < 2*sent && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	all.Wait()
	if commitErr != nil {
		return commitErr
	}
	if n := l.count(); n < 2*sent {
		return fmt.Errorf("%d of %d messages were relayed", n, 2*sent)
	}
	at := func(q float64) float64 { return quantile(l.times, q) }
	b.report.line("%d messages at %d/s: relayed after p50 %.1f ms, p99 %.1f ms, at most %.1f ms", len(l.times), relayRate, at(.5), at(.99), at(1))
	b.report.set("relay_lag_p99", at(.99))
	return err
}

func (l *lags) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// commitSteadily commits units of work at a rate, and returns how many.
func commitSteadily(ctx context.Context, store *repo.Store, rate int, length time.Duration) (int, error) {
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	began := time.Now()
	n := 0
	for ; time.Since(began) < length && ctx.Err() == nil; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		all.Go(func() {
			err := store.Do(ctx, orderScope, func(ctx context.Context, tx *repo.Tx) error { return place(ctx, tx, 1) })
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return n, errors.Join(errs...)
}
