package feed

import (
	"context"
	"encoding/json"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// begin sets the position. It asks the source only where the ring cannot tell.
func (s *Subscription) begin(ctx context.Context, r *Request) error {
	st, err := s.survey(ctx, r.Start)
	if err != nil {
		return err
	}
	after := r.Start.After
	pos, lost := st.locate(r.Start)
	if lost != "" && r.Strict {
		return fault.New(fault.Gone, "the stream cannot go on behind %s (%s): start at earliest, or without a cursor", after, lost).WithCode("cursor_lost")
	}
	if lost != "" {
		s.tell(NewGap(after, st.at(pos), lost, s.hub.cfg.Now()))
	}
	s.pos, s.sure, s.done, s.epoch, s.from = pos, pos, pos, st.Epoch, st.at(pos) // who resumes has what is before
	s.caught = pos >= st.Last
	if lost != "" || after.IsZero() {
		return nil
	}
	return s.endedAt(ctx, after.Seq)
}

// surveys is how often a consumer waits for a ring to follow its source into a
// new epoch, 20 ms each time.
const surveys = 250

// survey returns what there is for a start: what the ring has, if that is
// enough, or what its source has.
func (s *Subscription) survey(ctx context.Context, start Start) (State, error) {
	for range surveys {
		var ring State
		ring, s.generation = s.ring.snapshot()
		after := start.After
		inRing := after.Epoch == ring.Epoch && after.Seq+1 >= ring.First && after.Seq <= ring.Last
		if s.source == nil || inRing || !start.Oldest && after.IsZero() {
			return ring, nil
		}
		st, err := s.source.State(ctx)
		if err != nil || st.Epoch == ring.Epoch {
			return st, err
		}
		s.channel.look()
		pause.For(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return st, ctx.Err()
		}
	}
	return State{}, fault.New(fault.Unavailable, "the stream was made again, and is not open yet").WithCode("stream_changing").WithRetryAfter(time.Second)
}

// endedAt returns ErrEnded if nothing follows the sequence.
func (s *Subscription) endedAt(ctx context.Context, seq uint64) error {
	s.ring.mu.Lock()
	over := s.ring.ended && seq >= s.ring.read
	s.ring.mu.Unlock()
	if over {
		return ErrEnded
	}
	e, err := s.at(ctx, seq)
	if e != nil && s.filter.Match(e) && s.filter.ends(e) {
		return ErrEnded
	}
	return err
}

// locate returns the position of a start, and why it is not the one asked for.
func (s State) locate(start Start) (pos uint64, lost string) {
	after := start.After
	switch {
	case start.Oldest:
		return s.First - 1, ""
	case after.IsZero():
		return s.Last, ""
	case after.Epoch != s.Epoch:
		return s.First - 1, ReasonEpoch
	case after.Seq > s.Last:
		return s.Last, ReasonTruncated
	case after.Seq+1 < s.First:
		return s.First - 1, ReasonExpired
	}
	return after.Seq, ""
}

// at returns the event at a sequence, for filters that have an end; nil if that
// is not known any more.
func (s *Subscription) at(ctx context.Context, seq uint64) (*Event, error) {
	if len(s.filter.End) == 0 || seq == 0 {
		return nil, nil
	}
	if e := s.ring.at(seq); e != nil || s.source == nil {
		return e, nil
	}
	st, err := s.source.State(ctx)
	if err != nil || seq < st.First || seq > st.Last {
		return nil, err
	}
	for e, err := range s.source.Read(ctx, Read{Filter: s.filter, From: seq}) {
		if err != nil || e.Cursor.Seq != seq {
			return nil, err
		}
		return e, nil
	}
	return nil, nil
}

// catchUp queues a chunk of what the ring no longer holds, or a gap.
func (s *Subscription) catchUp(ctx context.Context) error {
	if s.source == nil || s.caught && s.policy == DropOldest {
		s.skip()
		return nil
	}
	select {
	case s.hub.spills <- struct{}{}:
	case <-s.timer.C:
		return errPatience
	case <-s.hub.draining:
		return ErrDraining
	case <-ctx.Done():
		return ctx.Err()
	}
	s.hub.metrics.spills.Inc()
	err := s.chunk(ctx)
	<-s.hub.spills
	if err != nil && ctx.Err() == nil {
		s.hub.cfg.Log.WarnContext(ctx, "a consumer that is behind waits for the source", "tenant", s.filter.Tenant, "error", err)
		pause.For(ctx, s.hub.cfg.Retry)
		s.rouse() // it is tried again
	}
	if len(s.queue) == 0 {
		s.rouse() // the ring may have what follows
	}
	return ctx.Err()
}

// skip drops what the ring no longer holds, and says so.
func (s *Subscription) skip() {
	r := s.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.pos >= r.floor {
		return
	}
	s.tell(NewGap(Cursor{s.epoch, s.pos}, Cursor{r.epoch, r.floor}, ReasonSlow, s.hub.cfg.Now()))
	s.hub.metrics.dropped.WithLabelValues(string(s.policy)).Inc()
	s.pos, s.sure = r.floor, r.floor
}

// chunk reads from the source up to where the ring begins, or a chunk is full.
func (s *Subscription) chunk(ctx context.Context) error {
	st, err := s.source.State(ctx)
	if err != nil {
		return err
	}
	if st.Epoch != s.epoch || st.Last < s.pos { // the ring is about to be reset, and will tell
		s.channel.look()
		pause.For(ctx, 20*time.Millisecond)
		return nil
	}
	start := s.pos
	if start+1 < st.First {
		s.expired(start, st.First-1)
		return nil
	}
	full, failed := s.read(ctx)
	if !full { // all that was there has been read
		s.pos = max(s.pos, st.Last)
	}
	if s.policy == Conflate {
		s.conflate()
	}
	// A reader that filters does not notice what expires under it.
	now, err := s.source.State(ctx)
	if err == nil && now.Epoch == st.Epoch && now.First > start+1 {
		s.expired(start, now.First-1)
		return nil
	}
	if err == nil {
		s.sure = s.pos
	}
	return failed
}

// read queues events from the source; false means that it came to the end.
func (s *Subscription) read(ctx context.Context) (full bool, err error) {
	cfg := &s.hub.cfg
	target := s.ring.state().First
	size := 0
	for e, err := range s.source.Read(ctx, Read{Filter: s.filter, From: s.pos + 1}) {
		if err != nil || e.Cursor.Epoch != s.epoch {
			return true, err
		}
		before := len(s.queue)
		s.enqueue(e)
		if len(s.queue) > before {
			size += e.cost()
		}
		if len(s.queue) >= cfg.ChunkEvents || size >= cfg.ChunkBytes || s.last != nil || e.Cursor.Seq >= target {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// expired says that the source has let go of events, some of which may have been
// for this consumer, and goes on behind them.
func (s *Subscription) expired(from, to uint64) {
	s.pos = max(s.pos, to)
	s.sure = s.pos
	s.tell(NewGap(Cursor{s.epoch, from}, Cursor{s.epoch, s.pos}, ReasonExpired, s.hub.cfg.Now()))
}

func gapReason(e *Event) string {
	var g Gap
	if json.Unmarshal(e.Data, &g) != nil {
		return "unknown"
	}
	return g.Reason
}
