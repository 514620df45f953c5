package dispatch

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
)

// interruptedDelay is after how long a message that was given back may be
// delivered to another process. A queue takes 0 for "without the delay".
const interruptedDelay = 10 * time.Millisecond

// call runs the handler; a panic is an error like any other.
func (w *worker) call(ctx context.Context, d queue.Delivery) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.ErrorContext(ctx, "a queue's handler panicked", "consumer", w.Consumer.Name,
				"message", d.ID, "panic", p, "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "the handler panicked").WithCode("handler_panic")
		}
	}()
	return w.Handle(ctx, d)
}

// settle tells the queue what became of a delivery.
func (w *worker) settle(work context.Context, h *holder, m Leased, err error) queue.Settled {
	ctx := context.WithoutCancel(work)
	switch {
	case !h.held():
		return w.lost(ctx, m, err)
	case err == nil:
		if err = w.insist(ctx, h, m.Lease.Ack); err != nil {
			return w.lost(ctx, m, err)
		}
		return queue.Acked
	case errors.Is(err, errDrained), context.Cause(work) != nil && !hopeless(err):
		// A handler that was cancelled with its consumer has not failed.
		return w.retry(ctx, h, m, interruptedDelay, queue.Interrupted)
	case hopeless(err), m.Attempt >= w.Consumer.MaxAttempts:
		return w.bury(ctx, h, m, err)
	}
	e := fault.Of(err)
	delay := max(jitter(w.Consumer.Backoff.After(m.Attempt)), e.RetryAfter)
	w.Log.WarnContext(ctx, "a message will be tried again", "consumer", w.Consumer.Name, "message", m.ID,
		"attempt", m.Attempt, "retry_in", delay, "code", fault.CodeOf(err), "error", err)
	return w.retry(ctx, h, m, delay, queue.Retried)
}

// hopeless reports whether the same message would meet the same error again.
// A conflict may be gone by then.
func hopeless(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Invalid, fault.NotFound, fault.Unsupported, fault.TooLarge, fault.Unauthenticated, fault.PermissionDenied:
		return true
	default:
		return false
	}
}

// bury stores the dead letter first and removes the message then: at no time
// is it in neither place. If it cannot be stored, the message is tried again.
func (w *worker) bury(ctx context.Context, h *holder, m Leased, err error) queue.Settled {
	e := fault.Of(err)
	dead := queue.DeadLetter{
		ID: queue.DeadID(w.Consumer.Name, m.ID), Stream: w.Consumer.Stream, Consumer: w.Consumer.Name,
		Code: fault.CodeOf(err), Reason: fault.Clip(e.Message, 1024), Attempts: m.Attempt, Time: time.Now(), Message: m.Message,
	}
	log := w.Log.With("consumer", w.Consumer.Name, "message", m.ID, "attempt", m.Attempt)
	if cause := w.insist(ctx, h, func(ctx context.Context) error { return w.Bury(ctx, dead) }); cause != nil {
		delay := jitter(w.Consumer.Backoff.Max)
		log.ErrorContext(ctx, "a dead letter cannot be stored; the message stays and is tried again", "error", cause, "retry_in", delay)
		return w.retry(ctx, h, m, delay, queue.Retried)
	}
	if cause := w.insist(ctx, h, m.Lease.Ack); cause != nil {
		return w.lost(ctx, m, cause) // the next delivery buries it again, which leaves one
	}
	log.ErrorContext(ctx, "a message became a dead letter", "code", dead.Code, "error", err)
	return queue.Buried
}

func (w *worker) retry(ctx context.Context, h *holder, m Leased, delay time.Duration, outcome queue.Settled) queue.Settled {
	again := func(ctx context.Context) error { return m.Lease.Retry(ctx, delay) }
	if err := w.insist(ctx, h, again); err != nil {
		return w.lost(ctx, m, err)
	}
	return outcome
}

// lost leaves the delivery to the end of its lease.
func (w *worker) lost(ctx context.Context, m Leased, err error) queue.Settled {
	w.Log.WarnContext(ctx, "a delivery's lease ran out, or its outcome did not reach the queue; it will be delivered again",
		"consumer", w.Consumer.Name, "message", m.ID, "attempt", m.Attempt, "error", err)
	return queue.Lost
}

// insist repeats a request to the queue while the lease lasts and the error is
// one that passes. It ends with the lease.
func (w *worker) insist(ctx context.Context, h *holder, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, h.left())
	defer cancel()
	for failures := 1; ; failures++ {
		err := request(ctx)
		if err == nil || !fault.Of(err).Kind.Retryable() || fault.CodeOf(err) == "queue_full" {
			return err
		}
		pause.For(ctx, jitter(queue.Backoff{Min: 20 * time.Millisecond, Max: time.Second}.After(failures)))
		if ctx.Err() != nil {
			return err
		}
	}
}

func errExhausted(attempts int) error {
	return fault.New(fault.Internal, "all %d attempts ended without an outcome: the process stopped, or the lease ran out", attempts).WithCode(queue.CodeExhausted)
}
