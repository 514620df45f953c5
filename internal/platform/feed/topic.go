package feed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
)

// TopicConfig configures a topic.
type TopicConfig struct {
	Tenant    string // whose it is: others cannot subscribe
	MaxEvents int    // kept for those who resume; default 1024
	MaxBytes  int    // kept, with what encodings take; default 1 MiB
	// Block makes the topic wait for its consumer, of which there can be only
	// one at a time: Append returns when there is room.
	Block bool
	Now   func() time.Time // default time.Now
}

// Topic is a stream that this process appends to, kept in memory only, such as
// the outputs of one running prediction.
type Topic struct {
	ring   *ring
	tenant string
	now    func() time.Time
	block  bool
	taken  atomic.Bool // by its one consumer, where it blocks
}

// NewTopic returns an empty topic. The epoch tells it from any other, also from
// one for the same thing before a restart: 1 to 32 lower-case letters and digits.
func NewTopic(epoch string, cfg TopicConfig) (*Topic, error) {
	if !validEpoch(epoch) || cfg.Tenant == "" || cfg.MaxEvents < 0 || cfg.MaxBytes < 0 {
		return nil, fault.New(fault.Internal, "a topic needs a tenant, an epoch of 1 to %d lower-case letters and digits, and limits that are not negative", maxEpoch)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &ring{maxEvents: cmp.Or(cfg.MaxEvents, 1024), maxBytes: cmp.Or(cfg.MaxBytes, 1<<20), onBytes: func(int) {}, room: make(chan struct{})}
	r.reset(State{Epoch: epoch}, 0, 0, "")
	return &Topic{ring: r, tenant: cfg.Tenant, now: cfg.Now, block: cfg.Block}, nil
}

// Append adds an event with data that is JSON, and returns its cursor. Events of
// one key replace each other for consumers that conflate. In a blocking topic it
// waits for its consumer until ctx ends.
func (t *Topic) Append(ctx context.Context, kind, key string, data json.RawMessage) (Cursor, error) {
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return Cursor{}, fault.Wrap(fault.Internal, err, "an event of type %s is not JSON", kind)
	}
	e := &Event{Tenant: t.tenant, Type: kind, Key: key, Time: t.now(), Data: line.Bytes()}
	r := t.ring
	for {
		r.mu.Lock()
		if r.ended {
			r.mu.Unlock()
			return Cursor{}, fault.New(fault.Conflict, "the stream has ended: nothing can be added").WithCode("stream_ended")
		}
		if !t.block || r.hasRoom(e) {
			e.Cursor = Cursor{Epoch: r.epoch, Seq: r.read + 1}
			r.put(e)
			r.mu.Unlock()
			return e.Cursor, nil
		}
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return Cursor{}, fault.Of(ctx.Err())
		}
	}
}

// hasRoom reports whether the event fits without pushing out one that the
// consumer has not taken.
func (r *ring) hasRoom(e *Event) bool {
	unread := r.after(r.consumed)
	size := e.cost()
	for _, u := range unread {
		size += u.cost()
	}
	return len(unread) == 0 || len(unread) < r.maxEvents && size <= r.maxBytes
}

// consume says that the consumer is done with everything up to pos.
func (r *ring) consume(pos uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pos > r.consumed {
		r.consumed = pos
		close(r.room)
		r.room = make(chan struct{})
	}
}

// Taken reports whether it has ended and its consumer, where it blocks, has taken
// everything.
func (t *Topic) Taken() bool {
	t.ring.mu.Lock()
	defer t.ring.mu.Unlock()
	return t.ring.ended && t.ring.consumed >= t.ring.read
}

// End adds an end event: consumers get all that is left and then stop, and those
// who come back are told that there is nothing more. A second call does nothing.
func (t *Topic) End() { t.end(nil) }

// Fail is End with an event before that says why, of type TypeError and with data
// that is JSON. Both have room even where the topic is full.
func (t *Topic) Fail(data json.RawMessage) { t.end(data) }

func (t *Topic) end(why json.RawMessage) {
	r := t.ring
	r.mu.Lock()
	if !r.ended {
		if why != nil {
			r.add(&Event{Cursor: Cursor{Epoch: r.epoch, Seq: r.read + 1}, Tenant: t.tenant, Type: TypeError, Time: t.now(), Data: why})
		}
		r.add(newEnd(Cursor{Epoch: r.epoch, Seq: r.read + 1}, t.now()))
		r.ended = true
	}
	r.mu.Unlock()
	r.end()
}
