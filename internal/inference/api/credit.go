package api

import (
	"context"
	"sync"

	"sluice/internal/platform/fault"
)

// credit is how many answers a client takes. Nil takes any number.
type credit struct {
	mu   sync.Mutex
	left int64
	more chan struct{} // closed, and replaced, when there is more
}

func newCredit(n int64) *credit { return &credit{left: n, more: make(chan struct{})} }

func (c *credit) grant(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(c.left+n, 1<<40)
	close(c.more)
	c.more = make(chan struct{})
}

// out reports whether the client has to grant more first.
func (c *credit) out() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0
}

// take waits until there is credit for one answer.
func (c *credit) take(ctx context.Context) error {
	for c != nil {
		c.mu.Lock()
		if c.left > 0 {
			c.left--
			c.mu.Unlock()
			return nil
		}
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return fault.Of(ctx.Err())
		}
	}
	return nil
}
