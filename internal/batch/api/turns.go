package api

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"sluice/internal/platform/fault"
)

// How many files are checked at a time, each of which may take some hundred megabytes, and
// for how long others wait for their turn.
const (
	checked   = 2
	checkWait = 10 * time.Second
)

// Turns are those of files to be checked, before anything is made of them. nil has no limit.
type Turns struct{ free *semaphore.Weighted }

// NewTurns returns turns of which all are free.
func NewTurns() *Turns { return &Turns{semaphore.NewWeighted(checked)} }

// Take waits for a turn, which done gives back. fault.Unavailable: too many others wait.
func (t *Turns) Take(ctx context.Context) (done func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	waiting, cancel := context.WithTimeout(ctx, checkWait)
	defer cancel()
	if err := t.free.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return nil, fault.Of(context.Cause(ctx))
		}
		return nil, fault.New(fault.Unavailable, "too many files are being checked at this time: try again in a moment").WithCode("batch_checks_busy").WithRetryAfter(checkWait)
	}
	return func() { t.free.Release(1) }, nil
}
