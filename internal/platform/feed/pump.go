package feed

import (
	"context"
	"math"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

func errChannels(limit int) error {
	return fault.New(fault.Unavailable, "the server is at its limit of %d different streams", limit).
		WithCode("streams_full").WithRetryAfter(5 * time.Second)
}

// run fills the ring until ctx ends.
func (c *channel) run(ctx context.Context) {
	st, err := c.hub.source.State(ctx)
	if err != nil {
		c.err = err
		close(c.ready)
		return
	}
	floor := st.First - 1
	if back := uint64(c.hub.cfg.Lookback); st.Last > back {
		floor = max(floor, st.Last-back)
	}
	c.ring.reset(st, floor, floor, "")
	c.safe = floor
	close(c.ready)
	for failures := 0; ctx.Err() == nil; {
		before := c.ring.progress()
		err := c.follow(ctx)
		if c.ring.progress() != before {
			failures = 0
		}
		if err != nil && ctx.Err() == nil {
			if failures++; failures == 1 || failures%64 == 0 {
				c.hub.cfg.Log.WarnContext(ctx, "a feed waits for its source", "tenant", c.key.tenant, "kind", c.key.kind, "failures", failures, "error", err)
			}
			pause.For(ctx, c.hub.cfg.Retry)
		}
	}
}

// progress changes when the ring does.
func (r *ring) progress() [2]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return [2]uint64{r.generation, r.read}
}

// follow reads the source from where the ring ends, until that fails or watch
// finds that the source is not what it was.
func (c *channel) follow(ctx context.Context) error {
	st, err := c.hub.source.State(ctx)
	if err != nil {
		return err
	}
	c.align(st)
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	defer func() { <-watched }()
	defer cancel()
	go func() {
		defer close(watched)
		defer cancel()
		c.watch(ctx)
	}()
	read := Read{Filter: Filter{Tenant: c.key.tenant, Kind: c.key.kind}, From: c.ring.progress()[1] + 1, Follow: true}
	for e, err := range c.hub.source.Read(ctx, read) {
		if err != nil || e.Cursor.Epoch != st.Epoch {
			return err
		}
		if read.Filter.Match(e) {
			c.ring.append(e)
		}
	}
	return nil
}

// align makes the ring fit what the source says about itself.
func (c *channel) align(st State) {
	read := c.ring.progress()[1]
	switch {
	case st.Epoch != c.ring.state().Epoch:
		c.ring.reset(st, st.First-1, math.MaxUint64, ReasonEpoch)
		c.safe = st.First - 1
	case st.Last < read:
		c.ring.reset(st, st.Last, math.MaxUint64, ReasonTruncated)
		c.safe = st.Last
	case st.First > c.safe+1:
		c.ring.lose(c.safe, st.First-1)
		c.safe = max(read, st.First-1)
	case st.First > read+1: // what is gone was not for us
		c.ring.skip(st.First - 1)
	}
}

// skip moves on to a sequence up to which there is nothing for this ring.
func (r *ring) skip(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.known = max(r.read, seq), max(r.known, seq)
}

// watch compares the ring with the source from time to time, and returns when
// the reader must begin anew: it would wait for ever in a stream that was made
// again or cut, and a reader that filters does not notice when the retention
// overtakes it. Nothing was missed as long as the source still has what follows
// the last look. What the source held at one look, and the reader was connected
// for until the next, the reader has got: a quiet one has missed nothing.
func (c *channel) watch(ctx context.Context) {
	previous := uint64(0)
	for {
		c.rest(ctx)
		c.hub.retire(c)
		read := c.ring.progress()[1]
		st, err := c.hub.source.State(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			previous = 0
			continue
		case st.Epoch != c.ring.state().Epoch, st.Last < read, st.First > c.safe+1:
			return
		}
		c.safe, previous = max(c.safe, previous, read), st.Last
	}
}

// rest waits until it is time to look.
func (c *channel) rest(ctx context.Context) {
	t := time.NewTimer(c.hub.cfg.Check)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.poke:
	case <-ctx.Done():
	}
}
