package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

type accountID string

type account struct {
	Owner   string
	Balance int64
	Closed  bool
}

type opened struct{ Owner string }
type paid struct{ Cents int64 } // version 1 had whole Euros
type closed struct{}

func (opened) EventType() string { return "account.opened" }
func (paid) EventType() string   { return "account.paid" }
func (paid) EventVersion() int   { return 2 }
func (closed) EventType() string { return "account.closed" }

func euros(data json.RawMessage) (json.RawMessage, error) {
	var old struct{ Euros int64 }
	if err := json.Unmarshal(data, &old); err != nil {
		return nil, err
	}
	return json.Marshal(paid{old.Euros * 100})
}

var balance = spec.IntField("balance", func(a *account) int64 { return a.Balance })

func source() Source[accountID, account] {
	c := NewCodec()
	Register[opened](c)
	Register[paid](c, euros)
	Register[closed](c)
	return Source[accountID, account]{Name: "accounts", Codec: c, Form: 1, Columns: []spec.Column[account]{balance}, Apply: apply}
}

func apply(a *account, e aggregate.Event, _ time.Time) {
	switch e := e.(type) {
	case opened:
		a.Owner = e.Owner
	case paid:
		a.Balance += e.Cents
	case closed:
		a.Closed = true
	}
}

// clock is a time that goes on by a second with every look.
type clock struct{ now time.Time }

func (c *clock) next() time.Time { c.now = c.now.Add(time.Second); return c.now }

func newStore() (*repo.Store, *clock) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	return repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: c.next}), c
}

var scope = repo.Scope{Tenant: "acme", Actor: "usr_1"}

func do(t testing.TB, s *repo.Store, f func(ctx context.Context, tx *repo.Tx) error) {
	t.Helper()
	if err := s.Do(context.Background(), scope, f); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, s *repo.Store, src Source[accountID, account], id accountID) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx *repo.Tx) error {
		_, err := src.Begin(ctx, tx, id, opened{"jane"})
		return err
	})
}

func pay(t testing.TB, s *repo.Store, src Source[accountID, account], id accountID, amounts ...int64) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx *repo.Tx) error {
		_, err := src.Append(ctx, tx, id, func(l Loaded[accountID, account]) ([]aggregate.Event, error) {
			var events []aggregate.Event
			for _, n := range amounts {
				events = append(events, paid{n})
			}
			return events, nil
		})
		return err
	})
}

// The state now is the fold of all events, and the state at any time that of
// those until then.
func TestStateFollowsFromEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, c := newStore()
		src := source()
		open(t, s, src, "a")
		type moment struct {
			at      time.Time
			balance int64
		}
		var want int64
		moments := []moment{{c.next(), 0}}
		for _, amounts := range rapid.SliceOfN(rapid.SliceOfN(rapid.Int64Range(-100, 100), 0, 3), 0, 10).Draw(rt, "payments") {
			pay(t, s, src, "a", amounts...)
			for _, n := range amounts {
				want += n
			}
			moments = append(moments, moment{c.next(), want})
		}
		from := s.Read(scope)
		now, err := src.Get(t.Context(), from, "a")
		if err != nil || now.State.Balance != want || now.State.Owner != "jane" || now.CreatedBy != "usr_1" {
			rt.Fatalf("%+v, %v; want %d", now, err, want)
		}
		for _, m := range moments {
			if state, _, err := src.At(t.Context(), from, "a", m.at); err != nil || state.Balance != m.balance {
				rt.Fatalf("at %s: %+v, %v; want %d", m.at, state, err, m.balance)
			}
		}
		var sequence int64
		for e, err := range src.History(t.Context(), from, "a", 0) {
			sequence++
			if err != nil || e.Sequence != sequence || e.Actor != "usr_1" {
				rt.Fatalf("%+v, %v; want sequence %d", e, err, sequence)
			}
		}
		if sequence != now.Sequence {
			rt.Fatalf("%d events of %d", sequence, now.Sequence)
		}
	})
}

func TestBeforeTheBeginning(t *testing.T) {
	s, c := newStore()
	before := c.next()
	open(t, s, source(), "a")
	if _, _, err := source().At(t.Context(), s.Read(scope), "a", before); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := source().Get(t.Context(), s.Read(repo.Scope{Tenant: "other"}), "a"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("another tenant's: %v", err)
	}
	err := s.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := source().Begin(ctx, tx, "a", opened{"joe"})
		return err
	})
	if !errors.Is(err, repo.ErrExists) {
		t.Errorf("begun twice: %v", err)
	}
}

// A decision is always made on the newest state.
func TestConcurrentDecisions(t *testing.T) {
	s := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	src := source()
	open(t, s, src, "a")
	pay(t, s, src, "a", 100)
	done := make(chan error)
	for range 50 {
		go func() {
			done <- s.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
				_, err := src.Append(ctx, tx, "a", func(l Loaded[accountID, account]) ([]aggregate.Event, error) {
					if l.State.Balance < 10 {
						return nil, fault.New(fault.Conflict, "empty").WithCode("empty")
					}
					return []aggregate.Event{paid{-10}}, nil
				})
				return err
			})
		}()
	}
	failed := 0
	for range 50 {
		if err := <-done; err != nil {
			failed++
			if fault.CodeOf(err) != "empty" {
				t.Error(err)
			}
		}
	}
	now, err := src.Get(t.Context(), s.Read(scope), "a")
	if err != nil || now.State.Balance != 0 || failed != 40 {
		t.Errorf("balance %d, %d refused, %v", now.State.Balance, failed, err)
	}
}

// A new form of the state does not trust old snapshots.
func TestNewForm(t *testing.T) {
	s, _ := newStore()
	open(t, s, source(), "a")
	pay(t, s, source(), "a", 1, 2)
	newer := source()
	newer.Form = 2
	newer.Apply = func(a *account, e aggregate.Event, at time.Time) {
		if p, ok := e.(paid); ok {
			a.Balance += 10 * p.Cents
		}
	}
	now, err := newer.Get(t.Context(), s.Read(scope), "a")
	if err != nil || now.State.Balance != 30 || now.State.Owner != "" {
		t.Errorf("%+v, %v", now, err)
	}
	pay(t, s, newer, "a", 1)
	page, err := newer.Find(t.Context(), s.Read(scope), spec.Query[account]{Where: balance.Eq(40)})
	if err != nil || len(page.Items) != 1 || page.Items[0].State.Balance != 40 {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestUpcast(t *testing.T) {
	c := source().Codec
	e, err := c.Decode(&repo.Message{Type: "account.paid", Version: 1, Data: []byte(`{"Euros":3}`)})
	if err != nil || e != (paid{300}) {
		t.Errorf("%v, %v", e, err)
	}
	for code, m := range map[string]repo.Message{
		"event_unknown":   {Type: "account.paid", Version: 3},
		"event_malformed": {Type: "account.paid", Version: 1, Data: []byte(`[]`)},
	} {
		if _, err := c.Decode(&m); fault.CodeOf(err) != code {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if _, err := c.Decode(&repo.Message{Type: "nonsense"}); fault.CodeOf(err) != "event_unknown" {
		t.Error(err)
	}
	for name, f := range map[string]func(){"twice": func() { Register[opened](c) }, "too few upcasts": func() { Register[paid](NewCodec()) }} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f()
		})
	}
}

// Many events are read in pages.
func TestLongHistory(t *testing.T) {
	s, _ := newStore()
	src := source()
	open(t, s, src, "a")
	pay(t, s, src, "a", slices.Repeat([]int64{1}, 2*historyPage)...)
	n := 0
	for _, err := range src.History(t.Context(), s.Read(scope), "a", 1) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2*historyPage {
		t.Errorf("%d events", n)
	}
}
