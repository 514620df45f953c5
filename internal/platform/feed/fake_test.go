package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

// memory is a source whose every fact a test can change.
type memory struct {
	mu      sync.Mutex
	epoch   string
	first   uint64
	events  []*Event // of the sequences first and on
	err     error
	reads   int
	honest  bool // a reader that filters does not notice when it is overtaken
	changed chan struct{}
}

func newMemory() *memory { return &memory{epoch: "e1", first: 1, changed: make(chan struct{})} }

func (m *memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) last() uint64 { return m.first + uint64(len(m.events)) - 1 }

// add appends events of the tenant t.
func (m *memory) add(types ...string) {
	m.change(func() {
		for _, kind := range types {
			seq := m.last() + 1
			m.events = append(m.events, &Event{Cursor: Cursor{m.epoch, seq}, Type: kind, Tenant: "t", Kind: "job", Subject: "j1",
				Time: time.Now(), Key: kind, Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, seq))})
		}
	})
}

func (m *memory) expire(n int) { m.change(func() { m.first += uint64(n); m.events = m.events[n:] }) }

func (m *memory) State(context.Context) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return State{Epoch: m.epoch, First: m.first, Last: m.last()}, m.err
}

func (m *memory) Read(ctx context.Context, r Read) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		next := r.From
		m.mu.Lock()
		m.reads++
		ok := next >= m.first && next <= m.last()+1
		m.mu.Unlock()
		if !ok {
			yield(nil, fault.New(fault.Conflict, "gap"))
			return
		}
		for ctx.Err() == nil {
			m.mu.Lock()
			var e *Event
			err, changed := m.err, m.changed
			if next < m.first && m.honest {
				err = fault.New(fault.Conflict, "gap")
			}
			if next = max(next, m.first); next <= m.last() {
				e = m.events[next-m.first]
			}
			m.mu.Unlock()
			switch {
			case err != nil:
				yield(nil, err)
				return
			case e != nil:
				next++
				if r.Filter.Match(e) && !yield(e, nil) {
					return
				}
			case !r.Follow:
				return
			default:
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		}
	}
}

func newTestHub(t testing.TB, source Source, cfg Config) *Hub {
	t.Helper()
	h, err := NewHub(source, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func subscribe(t testing.TB, h *Hub, r Request) *Subscription {
	t.Helper()
	if r.Filter.Tenant == "" {
		r.Filter.Tenant = "t"
	}
	s, err := h.Subscribe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// collect returns the next n events, and how many of a batch were more.
func collect(t testing.TB, s *Subscription, n int) []*Event {
	t.Helper()
	var all []*Event
	for len(all) < n {
		batch, err := s.Next(t.Context(), 30*time.Second)
		if err != nil || len(batch) == 0 {
			t.Fatalf("after %d of %d events: %d events, %v", len(all), n, len(batch), err)
		}
		all = append(all, batch...)
	}
	return all
}

// words says what events are: sequence and type, and why for gaps.
func words(events []*Event) []string {
	var out []string
	for _, e := range events {
		w := fmt.Sprintf("%d %s", e.Cursor.Seq, e.Type)
		if e.Type == TypeGap {
			var g Gap
			_ = json.Unmarshal(e.Data, &g)
			w = fmt.Sprintf("gap %s..%s %s", g.From, g.To, g.Reason)
		}
		out = append(out, w)
	}
	return out
}
