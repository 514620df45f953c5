package queuefeed

import (
	"context"
	"strconv"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/queue"
)

// What Find looks through: an event is stored after its id was made, by a clock
// that may be a little behind, and within the time that the relay can be late.
const (
	skew      = 5 * time.Second
	maxLooked = 50_000 // messages
)

// Find implements feed.Finder. Ids of events have the time in them, and the
// stream is in the order of time: so it halves, and then looks.
func (s *Source) Find(ctx context.Context, f feed.Filter, id string) (feed.Cursor, bool, error) {
	made, ok := madeAt(id)
	if !ok {
		return feed.Cursor{}, false, nil
	}
	st, err := s.State(ctx)
	if err != nil {
		return feed.Cursor{}, false, err
	}
	low, high := st.First, st.Last+1 // the first stored since made is within
	for low < high {
		middle := low + (high-low)/2
		m, there, err := s.first(ctx, middle)
		if err != nil {
			return feed.Cursor{}, false, err
		}
		if there && m.Time.Before(made.Add(-skew)) {
			low = m.Sequence + 1
		} else {
			high = middle
		}
	}
	return s.look(ctx, f, st, low, id)
}

// first returns the first message from the sequence on.
func (s *Source) first(ctx context.Context, from uint64) (queue.Message, bool, error) {
	for m, err := range s.reader.Read(ctx, queue.Read{Stream: s.cfg.Stream, From: from}) {
		return m, err == nil, err
	}
	return queue.Message{}, false, ctx.Err()
}

func (s *Source) look(ctx context.Context, f feed.Filter, st feed.State, from uint64, id string) (feed.Cursor, bool, error) {
	if from > st.Last {
		return feed.Cursor{}, false, nil
	}
	looked := 0
	for m, err := range s.reader.Read(ctx, queue.Read{Stream: s.cfg.Stream, Filters: []string{subject(&f)}, From: from}) {
		switch {
		case err != nil:
			return feed.Cursor{}, false, err
		case m.ID == id:
			return feed.Cursor{Epoch: st.Epoch, Seq: m.Sequence}, true, nil
		}
		if looked++; looked == maxLooked {
			break
		}
	}
	return feed.Cursor{}, false, ctx.Err()
}

// madeAt returns the time in an id, which is a version 7 UUID (RFC 9562, 5.7).
func madeAt(id string) (time.Time, bool) {
	if _, err := aggregate.ParseID[string]("evt", id); err != nil {
		return time.Time{}, false
	}
	ms, err := strconv.ParseInt(id[len("evt_"):][:12], 16, 64)
	return time.UnixMilli(ms), err == nil
}
