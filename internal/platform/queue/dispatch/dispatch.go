// Package dispatch runs a queue's consumer: it takes leased messages from an
// adapter's sources, hands them to the handler, and settles each by what the
// handler returned. Adapters give it sources and a place for dead letters; all
// that package queue promises about handlers is kept here.
//
// A lease is watched by this process's monotonic clock, since a server may
// accept the settlement of a lease that ran out (JetStream does, by sequence
// alone). What comes after the end of the lease is not sent.
//
// Known limits: a server that measures the lease from when it sent the message
// is ahead of the process by the transit, for which a tenth of the lease is
// set aside. A process that is stopped between checking the lease and sending
// its acknowledgement can still acknowledge late.
package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
)

// Lease settles one delivery at the queue. Its errors are classified;
// fault.Conflict says that the lease was lost.
type Lease interface {
	// Ack removes the message and returns once the queue has confirmed that.
	Ack(ctx context.Context) error
	// Retry has it delivered again after the delay, which is above 0.
	Retry(ctx context.Context, delay time.Duration) error
	// Extend starts the lease anew.
	Extend(ctx context.Context) error
}

// Leased is a message with the lease that its receiver holds.
type Leased struct {
	queue.Message
	Attempt int // deliveries so far, this one included
	Lease   Lease
}

// Source hands out messages one by one. It is used by one goroutine.
type Source interface {
	// Next waits for a message. After an error, unless ctx ended, it is called
	// again in a while.
	Next(ctx context.Context) (Leased, error)
	// Close gives back what the source holds.
	Close()
}

// Job is a consumer at work.
type Job struct {
	Consumer queue.Consumer // with its defaults
	Handle   queue.Handler
	// Sources are worked on at the same time; those of an ordered consumer
	// hold one lane each.
	Sources []Source
	// Bury stores a dead letter and returns once that is confirmed. Doing so
	// twice must leave one.
	Bury    func(context.Context, queue.DeadLetter) error
	Metrics *queue.ConsumerMetrics
	Log     *slog.Logger
}

// Run works until ctx ends, then lets handlers finish for the consumer's drain
// time, cancels the rest, and returns when every delivery is settled.
func Run(ctx context.Context, job Job) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(job.Consumer.Drain)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(errDrained)
		case <-work.Done():
		}
	})
	defer stop()

	w := &worker{Job: job, slots: make(chan struct{}, job.Consumer.Concurrency)}
	var all sync.WaitGroup
	for _, s := range job.Sources {
		all.Go(func() {
			defer s.Close()
			w.drive(ctx, work, s)
		})
	}
	all.Wait()
}

var errDrained = errors.New("the consumer was stopped, and its drain time is over")

// worker is the state of one Run.
type worker struct {
	Job
	slots chan struct{} // one for each handler that may run
}

// drive takes one message after the other from a source until ctx ends.
func (w *worker) drive(ctx, work context.Context, s Source) {
	for failures := 0; ctx.Err() == nil; {
		m, err := s.Next(ctx)
		switch {
		case err == nil:
			failures = 0
			w.handle(ctx, work, m)
		case ctx.Err() == nil:
			failures++
			delay := jitter(queue.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}.After(failures))
			w.Log.WarnContext(ctx, "a queue's consumer cannot fetch", "consumer", w.Consumer.Name, "error", err, "retry_in", delay)
			pause.For(ctx, delay)
		}
	}
}

// handle runs the handler on one delivery and settles it.
func (w *worker) handle(ctx, work context.Context, m Leased) {
	h := hold(work, m.Lease, w.Consumer.Lease)
	defer h.release()
	w.Metrics.Begin(m.Attempt)
	if !w.enter(ctx, h) {
		w.Metrics.End(w.settle(work, h, m, errDrained))
		return
	}
	defer func() { <-w.slots }()
	if m.Attempt > w.Consumer.MaxAttempts {
		w.Metrics.End(w.settle(work, h, m, errExhausted(w.Consumer.MaxAttempts)))
		return
	}
	err := w.call(h.ctx, queue.NewDelivery(m.Message, m.Attempt, h.extend))
	w.Metrics.End(w.settle(work, h, m, err))
}

// enter waits for a slot and keeps the lease meanwhile. It gives up when ctx
// ends or the lease is lost.
func (w *worker) enter(ctx context.Context, h *holder) bool {
	for {
		t := time.NewTimer(w.Consumer.Lease / 3)
		select {
		case w.slots <- struct{}{}:
			t.Stop()
			return true
		case <-t.C:
			_ = h.extend(h.ctx) // a lost lease ends h.ctx
		case <-ctx.Done():
			t.Stop()
			return false
		case <-h.ctx.Done():
			t.Stop()
			return false
		}
	}
}

// jitter takes a random part of up to a half off the delay.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/2+1)
}
