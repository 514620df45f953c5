package feed

import (
	"math"
	"slices"
	"sort"
	"sync"
)

// ring holds the latest events of a channel or topic, and wakes those who wait
// for more.
type ring struct {
	maxEvents, maxBytes int
	onBytes             func(delta int) // tells the metrics what is buffered

	mu      sync.Mutex
	entries []*Event
	bytes   int
	floor   uint64 // every event above it, up to read, is in entries
	read    uint64 // the source was read up to here
	known   uint64 // the source is known to reach at least here
	epoch   string
	ended   bool // nothing will follow
	waiting []*Subscription

	// A reset or a loss begins a new generation, and consumers of the one before
	// find out what they missed: of the events behind since, up to until.
	generation   uint64
	reason       string
	since, until uint64
	resume       uint64 // where those go on who cannot tell what they missed

	// For topics that wait for their consumer.
	consumed uint64
	room     chan struct{}
}

// reset empties the ring and sets where it goes on.
func (r *ring) reset(s State, floor, since uint64, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.entries)
	r.onBytes(-r.bytes)
	r.entries, r.bytes = r.entries[:0], 0
	r.epoch, r.floor, r.read, r.known = s.Epoch, floor, floor, s.Last
	r.since, r.until = since, math.MaxUint64
	r.renew(reason)
}

// lose says that the source has let go of everything up to until, and that what
// it had behind since may have gone before the ring could read it.
func (r *ring) lose(since, until uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.bytes
	for len(r.entries) > 0 && r.entries[0].Cursor.Seq <= until {
		r.drop()
	}
	r.onBytes(r.bytes - before)
	r.floor, r.read, r.known = max(r.floor, until), max(r.read, until), max(r.known, until)
	r.since, r.until = since, until
	r.renew(ReasonExpired)
}

// renew begins a generation. Callers hold the lock.
func (r *ring) renew(reason string) {
	r.generation, r.reason, r.resume = r.generation+1, reason, r.read
	for _, w := range r.waiting {
		w.waiting = false
		w.rouse()
	}
	r.waiting = r.waiting[:0]
}

// drop lets go of the oldest entry. Callers hold the lock.
func (r *ring) drop() {
	r.floor = r.entries[0].Cursor.Seq
	r.bytes -= r.entries[0].cost()
	r.entries[0] = nil
	r.entries = r.entries[1:]
}

// append adds an event and wakes those it is for. Others that wait have seen
// everything: they move on without being woken.
func (r *ring) append(e *Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(e)
}

func (r *ring) put(e *Event) {
	r.add(e)
	before := r.bytes
	for len(r.entries) > 1 && (len(r.entries) > r.maxEvents || r.bytes > r.maxBytes) {
		r.drop()
	}
	r.onBytes(r.bytes - before)
}

// add is put where nothing may be dropped. Callers hold the lock.
func (r *ring) add(e *Event) {
	seq := e.Cursor.Seq
	r.entries = append(r.entries, e)
	r.bytes += e.cost()
	r.read, r.known = seq, max(r.known, seq)
	r.onBytes(e.cost())
	r.waiting = slices.DeleteFunc(r.waiting, func(s *Subscription) bool {
		if seq <= s.pos {
			return false
		}
		if s.filter.Match(e) {
			s.waiting = false
			s.rouse()
			return true
		}
		s.pos = seq
		return false
	})
}

// end says that nothing will follow and wakes everybody.
func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, w := range r.waiting {
		w.rouse()
	}
}

// after returns the entries behind the position.
func (r *ring) after(pos uint64) []*Event {
	return r.entries[sort.Search(len(r.entries), func(i int) bool { return r.entries[i].Cursor.Seq > pos }):]
}

// state is what the ring holds, as a source would say it.
func (r *ring) state() State {
	s, _ := r.snapshot()
	return s
}

// snapshot is state, with the generation that it is of.
func (r *ring) snapshot() (State, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return State{Epoch: r.epoch, First: r.floor + 1, Last: r.known}, r.generation
}

// at returns the event with the sequence, if the ring has it.
func (r *ring) at(seq uint64) *Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.after(seq - 1); seq > 0 && len(list) > 0 && list[0].Cursor.Seq == seq {
		return list[0]
	}
	return nil
}

// join makes a consumer that has seen everything wait for more.
func (r *ring) join(s *Subscription) {
	if !s.waiting {
		s.waiting = true
		r.waiting = append(r.waiting, s)
	}
}

func (r *ring) leave(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, s); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
}

// close gives back what the ring buffered.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onBytes(-r.bytes)
	r.entries, r.bytes, r.floor = nil, 0, r.read
}
