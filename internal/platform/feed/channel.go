package feed

import (
	"context"
	"time"
)

// channelKey is what consumers must have in common to share a reader. The rest
// of their filters is applied in memory.
type channelKey struct{ tenant, kind string }

// channel is one reader of the source and the ring that it fills.
type channel struct {
	hub   *Hub
	key   channelKey
	ring  *ring
	stop  context.CancelFunc
	ready chan struct{} // closed when the ring has its position, or err is set
	err   error
	poke  chan struct{} // makes the pump compare ring and source now

	// Guarded by the hub's lock.
	users int
	since time.Time // when the last user left

	safe uint64 // the pump's own: nothing up to here can have been missed
}

// join returns the channel for the filter, with one user more.
func (h *Hub) join(ctx context.Context, f *Filter) (*channel, error) {
	key := channelKey{f.Tenant, f.Kind}
	h.mu.Lock()
	c := h.channels[key]
	if c == nil {
		if len(h.channels) >= h.cfg.MaxChannels && !h.evict() {
			h.mu.Unlock()
			return nil, errChannels(h.cfg.MaxChannels)
		}
		if h.drained {
			h.mu.Unlock()
			return nil, ErrDraining
		}
		c = h.start(key)
	}
	c.users++
	h.mu.Unlock()
	select {
	case <-c.ready:
	case <-ctx.Done():
		h.leave(c)
		return nil, ctx.Err()
	}
	if c.err != nil {
		h.leave(c)
		return nil, c.err
	}
	return c, nil
}

// start makes a channel and its pump. Callers hold the lock.
func (h *Hub) start(key channelKey) *channel {
	ctx, stop := context.WithCancel(context.Background())
	c := &channel{hub: h, key: key, stop: stop, ready: make(chan struct{}), poke: make(chan struct{}, 1),
		ring: &ring{maxEvents: h.cfg.RingEvents, maxBytes: h.cfg.RingBytes, onBytes: func(d int) { h.metrics.buffered.Add(float64(d)) }}}
	h.channels[key] = c
	h.metrics.channels.Inc()
	h.pumps.Go(func() {
		defer stop()
		c.run(ctx)
		h.forget(c)
		c.ring.close()
		h.metrics.channels.Dec()
	})
	return c
}

// look makes the pump compare the ring with its source now.
func (c *channel) look() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// leave is the end of one use.
func (h *Hub) leave(c *channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.users--
	c.since = h.cfg.Now()
}

func (h *Hub) forget(c *channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.channels[c.key] == c {
		delete(h.channels, c.key)
	}
}

// evict stops a channel that nobody uses, to make room. Callers hold the lock.
func (h *Hub) evict() bool {
	for key, c := range h.channels {
		if c.users == 0 {
			c.stop()
			delete(h.channels, key)
			return true
		}
	}
	return false
}

// retire stops the channel if nobody has used it for a while.
func (h *Hub) retire(c *channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.users == 0 && h.cfg.Now().Sub(c.since) >= h.cfg.Linger {
		c.stop()
		if h.channels[c.key] == c {
			delete(h.channels, c.key)
		}
	}
}
