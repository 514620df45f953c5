// Package pause waits as long as a context allows.
package pause

import (
	"context"
	"time"
)

// For waits until d is over or ctx ends, and says whether ctx let it: false where
// ctx ended first.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Beat calls beat every so often, in a goroutine of its own, until stop is called or ctx
// ends. Where beat returns an error, the context that Beat returns ends with it as its cause,
// and beat is not called again. stop returns once nothing runs any more.
func Beat(ctx context.Context, every time.Duration, beat func(context.Context) error) (_ context.Context, stop func()) {
	ctx, end := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for For(ctx, every) {
			if err := beat(ctx); err != nil {
				end(err)
				return
			}
		}
	}()
	return ctx, func() { end(nil); <-ended }
}
