package feature

import (
	"context"
	"sync"
	"time"
)

// Clock has what is read as of a time never change afterwards. A stamp of rows is later than
// all before it, and than all times that were read as of until then; who reads as of a time
// at or after a stamp whose rows are not there yet waits for them. The zero value is ready.
type Clock struct {
	mu    sync.Mutex
	last  time.Time     // the latest stamp, or time that was read as of
	stamp time.Time     // that is under way
	done  chan struct{} // closed when it is there; nil where none is
}

// Begin returns a stamp for rows that are about to be written, behind another that is known of;
// end has to be called when they are there, or failed. There is one writer at a time.
func (c *Clock) Begin(behind time.Time) (stamp time.Time, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp = now()
	for _, t := range []time.Time{c.last, behind} {
		if !stamp.After(t) {
			stamp = t.Add(time.Microsecond)
		}
	}
	done := make(chan struct{})
	c.last, c.stamp, c.done = stamp, stamp, done
	return stamp, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.done == done { // else the next one has begun, whose turn was behind this one's end
			c.done = nil
		}
		close(done)
	}
}

// Reach waits until all is there that is ever read as of a time, but for a time to come.
func (c *Clock) Reach(ctx context.Context, asOf time.Time) error {
	c.mu.Lock()
	if n := now(); n.Before(asOf) {
		asOf = n
	}
	asOf = asOf.Truncate(time.Microsecond)
	if asOf.After(c.last) {
		c.last = asOf
	}
	done := c.done
	if c.stamp.After(asOf) {
		done = nil
	}
	c.mu.Unlock()
	if done == nil {
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// now is the time in whole microseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
