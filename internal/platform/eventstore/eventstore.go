// Package eventstore has event-sourced aggregates: what happened is kept, and
// the state follows from it, as it is now or was at any time.
//
// Events are appended through a unit of work of package repo, so they are
// ordered by optimistic locking and published by the outbox like all others. The
// state is kept beside them as a snapshot with every append, so that reading it
// and finding by its columns costs no replay; a snapshot that an older form of
// the state has left is made anew from the events.
//
// Known limits: events are never rewritten, only upcast when they are read; a
// history is read in pages, but folded in one go.
package eventstore

import (
	"context"
	"iter"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Source is the repository of event-sourced aggregates with a state S.
type Source[ID ~string, S any] struct {
	// Name says what the aggregates are, as repo.Kind's does.
	Name  string
	Codec *Codec
	// Apply changes the state by one event. It never fails: what has happened
	// has happened. It sees events in their newest version only.
	Apply func(s *S, e aggregate.Event, at time.Time)
	// Form is the version of S and Apply: raise it where they change, so that
	// older snapshots do not count.
	Form int
	// Columns are what queries may filter and order by.
	Columns []spec.Column[S]
}

// stored is what the store keeps of an aggregate beside its events.
type stored[ID ~string, S any] struct {
	aggregate.Root[ID]
	Form  int `json:"form"`
	State S   `json:"state"`
}

// Loaded is the state of an aggregate with what is known of it as a whole.
type Loaded[ID ~string, S any] struct {
	aggregate.Root[ID]
	State S
}

// Recorded is an event with when it happened and who made it.
type Recorded struct {
	aggregate.Event
	Sequence int64 // from 1
	Time     time.Time
	Actor    string
}

// column is a column of the state as one of what is stored.
type column[ID ~string, S any] struct{ spec.Column[S] }

func (c column[ID, S]) Of(s *stored[ID, S]) spec.Value { return c.Column.Of(&s.State) }

func (s Source[ID, S]) kind() repo.Kind[ID, stored[ID, S]] {
	k := repo.Kind[ID, stored[ID, S]]{Name: s.Name, Keep: true, Root: func(a *stored[ID, S]) *aggregate.Root[ID] { return &a.Root }}
	for _, c := range s.Columns {
		k.Columns = append(k.Columns, column[ID, S]{c})
	}
	return k
}

// Schema returns the source as drivers need it.
func (s Source[ID, S]) Schema() *repo.Schema { return s.kind().Schema() }

// Get returns the state as it is now, or repo.ErrNotFound.
func (s Source[ID, S]) Get(ctx context.Context, from repo.Reading, id ID) (Loaded[ID, S], error) {
	a, err := s.kind().Get(ctx, from, id)
	if err == nil {
		err = s.renew(ctx, from, &a)
	}
	return Loaded[ID, S]{a.Root, a.State}, err
}

// renew makes a snapshot of an older form anew.
func (s Source[ID, S]) renew(ctx context.Context, from repo.Reading, a *stored[ID, S]) error {
	if a.Form == s.Form {
		return nil
	}
	a.State, a.Form = *new(S), s.Form
	for e, err := range s.History(ctx, from, a.ID, 0) {
		if err != nil {
			return err
		}
		s.Apply(&a.State, e.Event, e.Time)
	}
	return nil
}

// Begin appends the first events of an aggregate that is not there yet.
func (s Source[ID, S]) Begin(ctx context.Context, tx *repo.Tx, id ID, events ...aggregate.Event) (Loaded[ID, S], error) {
	a := stored[ID, S]{Form: s.Form}
	a.ID = id
	s.happen(tx, &a, events)
	err := s.kind().Add(ctx, tx, &a)
	a.TakeEvents()
	return Loaded[ID, S]{a.Root, a.State}, err
}

// Append has decide look at the state and say what happens, and appends it. It
// returns the state after that. Events that follow from an outdated state are
// never appended: the unit of work runs again.
func (s Source[ID, S]) Append(ctx context.Context, tx *repo.Tx, id ID, decide func(Loaded[ID, S]) ([]aggregate.Event, error)) (Loaded[ID, S], error) {
	a, err := s.kind().Update(ctx, tx, id, func(a *stored[ID, S]) error {
		if err := s.renew(ctx, tx, a); err != nil {
			return err
		}
		events, err := decide(Loaded[ID, S]{a.Root, a.State})
		if err != nil {
			return err
		}
		s.happen(tx, a, events)
		return nil
	})
	return Loaded[ID, S]{a.Root, a.State}, err
}

func (s Source[ID, S]) happen(tx *repo.Tx, a *stored[ID, S], events []aggregate.Event) {
	for _, e := range events {
		s.Apply(&a.State, e, tx.Now())
		a.Record(e)
	}
}

// historyPage is how many events are read at a time.
const historyPage = 1000

// History goes through the events of an aggregate with a sequence above after,
// in order. After an error there is nothing more.
func (s Source[ID, S]) History(ctx context.Context, from repo.Reading, id ID, after int64) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		for {
			page, err := s.kind().History(ctx, from, id, after, historyPage)
			if err != nil {
				yield(Recorded{}, err)
				return
			}
			for i := range page {
				e, err := s.Codec.Decode(&page[i])
				if !yield(Recorded{e, page[i].Sequence, page[i].Time, page[i].Actor}, err) || err != nil {
					return
				}
				after = page[i].Sequence
			}
			if len(page) < historyPage {
				return
			}
		}
	}
}

// At returns the state as it was at a time, and the sequence of the last event
// until then; repo.ErrNotFound where nothing had happened yet.
func (s Source[ID, S]) At(ctx context.Context, from repo.Reading, id ID, at time.Time) (S, int64, error) {
	var (
		state S
		last  int64
	)
	for e, err := range s.History(ctx, from, id, 0) {
		if err != nil {
			return state, last, err
		}
		if e.Time.After(at) {
			break
		}
		s.Apply(&state, e.Event, e.Time)
		last = e.Sequence
	}
	if last == 0 {
		return state, 0, repo.ErrNotFound
	}
	return state, last, nil
}

// Find returns a page of the aggregates that a query selects.
func (s Source[ID, S]) Find(ctx context.Context, from repo.Reading, query spec.Query[S]) (spec.Page[Loaded[ID, S]], error) {
	k := s.kind()
	found, err := k.Find(ctx, from, spec.Query[stored[ID, S]]{Where: spec.Lift(query.Where, func(a *stored[ID, S]) *S { return &a.State }),
		Order: spec.Order[stored[ID, S]](query.Order), Limit: query.Limit, After: query.After, Deleted: query.Deleted})
	page := spec.Page[Loaded[ID, S]]{Next: found.Next}
	for _, a := range found.Items {
		if err := s.renew(ctx, from, &a); err != nil {
			return page, err
		}
		page.Items = append(page.Items, Loaded[ID, S]{a.Root, a.State})
	}
	return page, err
}
