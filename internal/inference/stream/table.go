package stream

import (
	"context"
	"strings"
	"sync"
	"time"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// key identifies a sequence. Streams and generations have a number of their own instead of
// an id; it is 0 for sequences that clients name.
type key struct {
	tenant, model, id string
	own               uint64
}

// sequence has what the steps of one sequence hand on.
type sequence struct {
	key  key
	turn chan struct{} // holds a token while a step is in progress

	// For whoever has the turn.
	states          []tensor.Tensor // nil before the first step
	slab            *tensor.Slab    // the states' memory
	version, sha256 string          // of the model that made them
	idle            time.Duration   // after which the sequence expires

	// Guarded by the table's lock.
	size    int64 // of the states, in bytes
	waiting int   // steps that wait for the turn
	gone    bool  // it has ended
	timer   *time.Timer
}

// use is how much one tenant, or all together, have in the table.
type use struct {
	sequences int
	bytes     int64
}

// table has all sequences of a process.
type table struct {
	cfg     Config
	metrics *metrics

	mu      sync.Mutex
	all     map[key]*sequence
	total   use
	tenants map[string]*use
}

func newTable(cfg Config, m *metrics) *table {
	return &table{cfg: cfg, metrics: m, all: map[key]*sequence{}, tenants: map[string]*use{}}
}

// enter waits for the turn of a sequence and takes it. A step that starts a sequence makes
// it if there is none. After enter comes leave or forget.
func (t *table) enter(ctx context.Context, k key, start bool) (*sequence, error) {
	for {
		t.mu.Lock()
		s := t.all[k]
		if s == nil {
			defer t.mu.Unlock()
			if !start {
				return nil, errUnknown(k)
			}
			return t.admit(k)
		}
		s.waiting++
		t.mu.Unlock()
		var err error
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			err = fault.Of(ctx.Err())
		}
		t.mu.Lock()
		s.waiting--
		gone := s.gone
		t.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case !gone:
			return s, nil
		}
		s.giveBack() // it ended meanwhile: another may have the name by now
	}
}

// admit makes a sequence whose turn is taken. Callers hold the lock.
func (t *table) admit(k key) (*sequence, error) {
	u := t.tenants[k.tenant]
	switch {
	case t.total.sequences >= t.cfg.MaxSequences:
		return nil, t.refuse(fault.New(fault.Unavailable, "the server is at its limit of %d sequences", t.cfg.MaxSequences).WithCode("sequences_full"))
	case u != nil && u.sequences >= t.cfg.MaxPerTenant:
		return nil, t.refuse(fault.New(fault.Exhausted, "this tenant has %d sequences, which is its limit: end some, or let them expire", t.cfg.MaxPerTenant).WithCode("sequences_per_tenant"))
	}
	if u == nil {
		u = &use{}
		t.tenants[k.tenant] = u
	}
	s := &sequence{key: k, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	t.all[k] = s
	t.total.sequences++
	u.sequences++
	t.metrics.sequences.Inc()
	return s, nil
}

func (t *table) refuse(err *fault.Error) error {
	t.metrics.refused.WithLabelValues(err.Code).Inc()
	return err.WithRetryAfter(time.Second)
}

// resize counts the new size of a sequence's states. Growing beyond a limit fails.
func (t *table) resize(s *sequence, size int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	u, more := t.tenants[s.key.tenant], size-s.size
	switch {
	case more <= 0:
	case t.total.bytes+more > t.cfg.MaxBytes:
		return t.refuse(fault.New(fault.Unavailable, "the states of all sequences would have more than the server's limit of %d bytes", t.cfg.MaxBytes).WithCode("states_full"))
	case u.bytes+more > t.cfg.TenantBytes:
		return t.refuse(fault.New(fault.Exhausted, "the states of this tenant's sequences would have more than its limit of %d bytes: end some, or let them expire", t.cfg.TenantBytes).WithCode("states_per_tenant"))
	}
	t.count(s, u, more)
	return nil
}

// restore counts the size that a sequence had before a step that failed.
func (t *table) restore(s *sequence, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(s, t.tenants[s.key.tenant], size-s.size)
}

// count adds to the size of a sequence. Callers hold the lock.
func (t *table) count(s *sequence, u *use, more int64) {
	s.size += more
	u.bytes += more
	t.total.bytes += more
	t.metrics.bytes.Add(float64(more))
}

// leave gives the turn back; from now on the sequence may expire.
func (t *table) leave(s *sequence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.gone && s.idle > 0 {
		if s.timer == nil {
			s.timer = time.AfterFunc(s.idle, func() { t.expire(s) })
		} else {
			s.timer.Reset(s.idle)
		}
	}
	<-s.turn
}

// expire forgets a sequence that nobody has used for long enough.
func (t *table) expire(s *sequence) {
	select {
	case s.turn <- struct{}{}:
	default:
		return // a step is in progress: leave sets the timer again
	}
	t.mu.Lock()
	busy := s.waiting > 0 || s.gone
	if busy { // a step that waits gets the turn; if it gives up, nobody calls leave
		if !s.gone {
			s.timer.Reset(s.idle)
		}
		s.giveBack()
	}
	t.mu.Unlock()
	if !busy {
		t.forget(s, "expired")
	}
}

// giveBack gives the turn back, unless forget has done so already.
func (s *sequence) giveBack() {
	select {
	case <-s.turn:
	default:
	}
}

// forget ends a sequence and gives its turn back. The caller has the turn, or is the only
// one who uses the sequence.
func (t *table) forget(s *sequence, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.gone {
		s.gone = true
		if s.timer != nil {
			s.timer.Stop()
		}
		u := t.tenants[s.key.tenant]
		t.count(s, u, -s.size)
		t.total.sequences--
		if u.sequences--; u.sequences == 0 {
			delete(t.tenants, s.key.tenant)
		}
		delete(t.all, s.key)
		t.metrics.sequences.Dec()
		t.metrics.ended.WithLabelValues(reason).Inc()
		s.slab.Release()
		s.slab, s.states = nil, nil
	}
	s.giveBack()
}

// close forgets all sequences without a step in progress.
func (t *table) close() {
	t.mu.Lock()
	all := make([]*sequence, 0, len(t.all))
	for _, s := range t.all {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		select {
		case s.turn <- struct{}{}:
			t.forget(s, "stopped")
		default:
		}
	}
}

// errUnknown says that there is no such sequence, as Triton words it: clients match its
// first sentence.
func errUnknown(k key) error {
	if k.own != 0 {
		return fault.New(fault.Invalid, "the stream's sequence of model '%s' has expired: begin it again with sequence_start", k.model).WithCode("sequence_unknown")
	}
	return fault.New(fault.Invalid, "inference request for sequence %s to model '%s' must specify the START flag on the first request of the sequence: it is not known here; it may have ended or expired, or be in another process", fault.Clip(strings.TrimPrefix(k.id, serve.TextMark), 100), k.model).
		WithCode("sequence_unknown")
}
