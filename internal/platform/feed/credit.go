package feed

import "sync"

// maxCredit bounds what can be outstanding; more is as good as no bound.
const maxCredit = 1 << 40

// credit is what a consumer has allowed to be sent and has not been sent yet.
type credit struct {
	mu       sync.Mutex
	on       bool
	messages int64
	bytes    int64
	weigh    bool // bytes were granted at least once, so they count
}

func (c *credit) grant(messages, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages += min(max(messages, 0), maxCredit-c.messages)
	c.bytes += min(max(bytes, 0), maxCredit-c.bytes)
	c.weigh = c.weigh || bytes > 0
}

// some reports whether anything may be sent.
func (c *credit) some() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.on || c.messages > 0 && (!c.weigh || c.bytes > 0)
}

// take uses credit for one message, if there is enough.
func (c *credit) take(size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return true
	}
	if c.messages < 1 || c.weigh && c.bytes < int64(size) {
		return false
	}
	c.messages--
	if c.weigh {
		c.bytes -= int64(size)
	}
	return true
}
