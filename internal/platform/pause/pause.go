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
