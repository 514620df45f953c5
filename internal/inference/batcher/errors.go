package batcher

import (
	"context"
	"fmt"
	"time"

	"sluice/internal/platform/fault"
)

// The codes of the errors that the batcher itself returns.
const (
	CodeQueueFull  = "queue_full"
	CodeOverloaded = "overloaded"
	CodeTimeout    = "timeout"
	CodeDraining   = "draining"
)

func errTooManyRows(rows, most int) error {
	return fault.New(fault.Invalid, "%d rows in one request, expected at most %d", rows, most)
}

func errQueueFull(most int, retry time.Duration) error {
	return fault.New(fault.Unavailable, "Exceeds maximum queue size of %d requests", most).
		WithCode(CodeQueueFull).WithRetryAfter(retryAfter(retry))
}

// errOverloaded refuses a task that would end late. By how much is how long
// the queue takes to drain far enough for the same task to end in time.
func errOverloaded(predicted, deadline time.Duration) error {
	retry := retryAfter(predicted - deadline)
	return fault.New(fault.Unavailable, "overloaded: predicted to finish in %v, after the deadline in %v; retry in %v",
		rounded(predicted), rounded(deadline), retry).WithCode(CodeOverloaded).WithRetryAfter(retry)
}

func errDisplaced(retry time.Duration) error {
	return fault.New(fault.Unavailable, "overloaded: the place in the queue went to a tenant with less queued work").
		WithCode(CodeOverloaded).WithRetryAfter(retryAfter(retry))
}

func errTimeout(waited, retry time.Duration) error {
	return fault.New(fault.Unavailable, "Request timeout expired after %v in the queue", rounded(waited)).
		WithCode(CodeTimeout).WithRetryAfter(retryAfter(retry))
}

func errDraining() error {
	return fault.New(fault.Unavailable, "the model version is being unloaded").WithCode(CodeDraining)
}

func errCancelled(ctx context.Context, where string) error {
	return fmt.Errorf("cancelled %s: %w", where, ctx.Err())
}

func errPanicked(recovered any, stack []byte) error {
	return fault.Wrap(fault.Internal, fmt.Errorf("panic: %v\n%s", recovered, stack), "the model failed unexpectedly")
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// retryAfter makes a retry hint: whole milliseconds, at least one.
func retryAfter(d time.Duration) time.Duration {
	return max((d + time.Millisecond - 1).Truncate(time.Millisecond), time.Millisecond)
}
