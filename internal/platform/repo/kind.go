package repo

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/result"
	"sluice/internal/platform/spec"
)

// Kind is the repository of the aggregates of one type. It holds no connection:
// its methods take a Reading, which may be a unit of work, or a Tx where they
// write. Make one as a package variable beside the type.
type Kind[ID ~string, A any] struct {
	// Name says what the aggregates are, in the plural: lower case, underscores.
	Name string
	// Root returns the Root that an A embeds.
	Root func(*A) *aggregate.Root[ID]
	// Columns are what queries may filter and order by.
	Columns []spec.Column[A]
	// Expires, if set, returns when the aggregate ends by itself; zero for never.
	Expires func(*A) time.Time
	// Room, if set, makes room in an aggregate for what its JSON says, before that is
	// decoded into it: slices that grow meanwhile leave several times as much behind.
	Room func(a *A, text []byte)
	// Keep makes the events the aggregate's history, see package eventstore.
	Keep bool
}

// Schema returns the kind as drivers need it.
func (k Kind[ID, A]) Schema() *Schema {
	s := &Schema{Kind: k.Name, Columns: make([]Column, len(k.Columns))}
	for i, c := range k.Columns {
		s.Columns[i] = Column{c.Name(), c.Type()}
	}
	s.Refill = func(r *Record) error {
		a, err := k.decode(*r)
		if err == nil {
			r.Fields = k.fields(&a)
		}
		return err
	}
	return s
}

// Get returns the aggregate, or ErrNotFound, also where it is deleted.
func (k Kind[ID, A]) Get(ctx context.Context, from Reading, id ID) (A, error) {
	r, err := k.live(ctx, from, id)
	if err != nil {
		return *new(A), err
	}
	return k.decode(r)
}

// Exists says whether the aggregate is there and not deleted.
func (k Kind[ID, A]) Exists(ctx context.Context, from Reading, id ID) (bool, error) {
	_, err := k.live(ctx, from, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Add stores a new aggregate, whose id must be set. Where one with this id is
// there, deleted perhaps, the unit of work fails with ErrExists, at its commit
// at the latest.
func (k Kind[ID, A]) Add(ctx context.Context, tx *Tx, a *A) error {
	key, err := k.key(tx, k.Root(a).ID)
	if err != nil {
		return err
	}
	// The unit of work may run again, with the same a: it keeps its events.
	stored := *a
	root := k.Root(&stored)
	root.Sequence = 0
	// What has expired may still be there. And who has read that there is none
	// must not be surprised.
	e, seen := tx.seen[key]
	if e.erased {
		return errErasedHere
	}
	if k.Expires != nil && !seen && !tx.careful {
		tx.hopeful = true // nearly always there is none, and the commit finds that out by itself
	} else if seen || k.Expires != nil {
		r, err := tx.record(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		switch {
		case err != nil || r.Expired(tx.started):
			root.Sequence = r.Sequence
		case seen:
			return ErrExists
		default:
			// The commit says so, unless it was this very operation that added it: then
			// its mark comes first.
			tx.seen[key] = entry{}
		}
	}
	root.CreatedAt, root.CreatedBy, root.DeletedAt = tx.started, tx.scope.Actor, time.Time{}
	if err := k.save(tx, key, &stored); err != nil {
		return err
	}
	k.Root(a).Adopt(root)
	return nil
}

// AddMany adds aggregates in as few commits as the store can make of them. The
// outcomes come in the order of the aggregates: one that is there already, or
// cannot be stored, keeps no other from being added.
func (k Kind[ID, A]) AddMany(ctx context.Context, s *Store, scope Scope, aggregates []*A) []result.Result[ID] {
	if s.driver.Features().MultiAggregate && len(aggregates) > 1 {
		err := s.Do(ctx, scope, func(ctx context.Context, tx *Tx) error {
			for _, a := range aggregates {
				if err := k.Add(ctx, tx, a); err != nil {
					return err
				}
			}
			return nil
		})
		// Where the store does not answer, or did not say what became of it, adding
		// them again one by one would tell lies about them.
		if err != nil && ctx.Err() != nil && !fault.Of(err).Kind.Retryable() {
			err = fault.Of(ctx.Err()) // what was wrong with one is not what became of the others
		}
		if err == nil || fault.Of(err).Kind.Retryable() || ctx.Err() != nil {
			return k.each(aggregates, func(a *A) result.Result[ID] { return result.Of(k.Root(a).ID, err) })
		}
	}
	return k.each(aggregates, func(a *A) result.Result[ID] {
		one := scope
		one.Operation = s.cfg.NewID()
		return result.Of(k.Root(a).ID, s.Do(ctx, one, func(ctx context.Context, tx *Tx) error { return k.Add(ctx, tx, a) }))
	})
}

func (k Kind[ID, A]) each(aggregates []*A, f func(*A) result.Result[ID]) []result.Result[ID] {
	out := make([]result.Result[ID], len(aggregates))
	for i, a := range aggregates {
		out[i] = f(a)
	}
	return out
}

// Update has change work on the aggregate and stores what it made of it. It
// returns the aggregate as it is then. A change that changes nothing, and
// records no event, makes no new version.
func (k Kind[ID, A]) Update(ctx context.Context, tx *Tx, id ID, change func(*A) error) (A, error) {
	r, err := k.live(ctx, tx, id)
	if err != nil {
		return *new(A), err
	}
	a, err := k.decode(r)
	if err != nil {
		return a, err
	}
	if err := change(&a); err != nil {
		return a, err
	}
	if k.Root(&a).ID != id {
		return a, fault.New(fault.Internal, "an update changed the id of one of the %s", k.Name)
	}
	return a, k.save(tx, r.Key, &a)
}

// Delete deletes the aggregate so that it can be restored. It may record
// events.
func (k Kind[ID, A]) Delete(ctx context.Context, tx *Tx, id ID, events ...aggregate.Event) error {
	_, err := k.Update(ctx, tx, id, func(a *A) error {
		k.Root(a).DeletedAt = tx.started
		k.record(a, events)
		return nil
	})
	return err
}

// Restore brings back what was deleted; it is no error where it was not.
func (k Kind[ID, A]) Restore(ctx context.Context, tx *Tx, id ID, events ...aggregate.Event) (A, error) {
	key, err := k.key(tx, id)
	if err != nil {
		return *new(A), err
	}
	r, err := tx.record(ctx, key)
	if err == nil && r.Expired(tx.started) {
		err = ErrNotFound
	}
	if err != nil {
		return *new(A), err
	}
	a, err := k.decode(r)
	if err != nil || r.DeletedAt.IsZero() {
		return a, err
	}
	k.Root(&a).DeletedAt = time.Time{}
	k.record(&a, events)
	return a, k.save(tx, key, &a)
}

// Erase removes the aggregate and its history for good, deleted or not.
func (k Kind[ID, A]) Erase(ctx context.Context, tx *Tx, id ID) error {
	key, err := k.key(tx, id)
	if err != nil {
		return err
	}
	r, err := tx.record(ctx, key)
	if err != nil {
		return err
	}
	tx.write(r, true)
	return nil
}

// Require has the unit of work fail with a conflict, and run again, where the
// aggregate, or that there is none, is not as it was read here.
func (k Kind[ID, A]) Require(ctx context.Context, tx *Tx, id ID) error {
	key, err := k.key(tx, id)
	if err != nil {
		return err
	}
	if _, err := tx.record(ctx, key); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	tx.require(key)
	return nil
}

// Find returns a page of the aggregates that a query selects.
func (k Kind[ID, A]) Find(ctx context.Context, from Reading, query spec.Query[A]) (spec.Page[A], error) {
	var page spec.Page[A]
	s := k.Schema()
	q := &FindQuery{Tenant: from.Tenant(), Where: query.Where.Expr(), Order: query.Order.Field, Descending: query.Order.Descending,
		Deleted: query.Deleted, Now: from.now()}
	if err := check(s, q.Where, q.Order); err != nil {
		return page, err
	}
	var err error
	if q.After, err = q.decode(s, query.After); err != nil {
		return page, err
	}
	limit := query.PageLimit()
	q.Limit = limit + 1 // one more says whether there is a next page
	found, err := from.records(ctx, s, q)
	if err != nil {
		return page, err
	}
	if len(found) > limit {
		found = found[:limit]
		page.Next = q.encode(s, q.Place(s, &found[limit-1]))
	}
	page.Items = make([]A, len(found))
	for i, r := range found {
		if page.Items[i], err = k.decode(r); err != nil {
			return spec.Page[A]{}, err
		}
	}
	return page, nil
}

// All goes through everything that a query selects, page by page. After an
// error there is nothing more.
func (k Kind[ID, A]) All(ctx context.Context, from Reading, query spec.Query[A]) iter.Seq2[A, error] {
	return func(yield func(A, error) bool) {
		if query.Limit == 0 {
			query.Limit = spec.MaxLimit
		}
		for {
			page, err := k.Find(ctx, from, query)
			if err != nil {
				yield(*new(A), err)
				return
			}
			for _, a := range page.Items {
				if !yield(a, nil) {
					return
				}
			}
			if query.After = page.Next; query.After == "" {
				return
			}
		}
	}
}

// Count returns how many aggregates satisfy a rule.
func (k Kind[ID, A]) Count(ctx context.Context, from Reading, where spec.Spec[A]) (int64, error) {
	return k.count(ctx, from, where, 0)
}

func (k Kind[ID, A]) count(ctx context.Context, from Reading, where spec.Spec[A], most int) (int64, error) {
	groups, err := k.Summarise(ctx, from, spec.Summary[A]{Where: where, Measures: []spec.Measure{{Function: spec.Count}}, Most: most})
	if err != nil || len(groups) == 0 {
		return 0, err
	}
	return groups[0].Values[0].Int, nil
}

// CountTo is Count for who can do with less: where there are more than most it says any
// number from that on. A store that keeps no counts is asked for as many.
func (k Kind[ID, A]) CountTo(ctx context.Context, from Reading, where spec.Spec[A], most int) (int64, error) {
	n, err := k.count(ctx, from, where, most)
	if !errors.Is(err, spec.ErrUnsupported) {
		return n, err
	}
	page, err := k.Find(ctx, from, spec.Query[A]{Where: where, Limit: most})
	return int64(len(page.Items)), err
}

// Summarise returns figures of the aggregates that satisfy a rule.
func (k Kind[ID, A]) Summarise(ctx context.Context, from Reading, query spec.Summary[A]) ([]spec.Group, error) {
	s := k.Schema()
	q := &SummaryQuery{Tenant: from.Tenant(), Where: query.Where.Expr(), By: query.By, Measures: query.Measures, Deleted: query.Deleted, Now: from.now(), Most: query.Most}
	columns := []string{q.By}
	for _, m := range q.Measures {
		if m.Field == "" && m.Function != spec.Count {
			return nil, unknownColumn(s, "")
		}
		columns = append(columns, m.Field)
		numeric := m.Function == spec.Sum || m.Function == spec.Avg
		if i := s.Index(m.Field); m.Field != "" && i >= 0 && numeric && s.Columns[i].Type != spec.TypeInt && s.Columns[i].Type != spec.TypeFloat {
			return nil, fault.New(fault.Invalid, "%s of %s are no numbers, which only can be summed", m.Field, k.Name).WithCode("not_a_number")
		}
	}
	if err := check(s, q.Where, columns...); err != nil {
		return nil, err
	}
	return from.groups(ctx, s, q)
}

// History returns the events of an aggregate that keeps them, with a sequence
// above after, in order, at most limit.
func (k Kind[ID, A]) History(ctx context.Context, from Reading, id ID, after int64, limit int) ([]Message, error) {
	key, err := k.key(from, id)
	if err != nil {
		return nil, err
	}
	return from.history(ctx, key, after, limit)
}

// key makes the key of an id, which may be anything that a client sent.
func (k Kind[ID, A]) key(from Reading, id ID) (Key, error) {
	if id == "" || len(id) > aggregate.MaxID || !utf8.ValidString(string(id)) || strings.ContainsRune(string(id), 0) {
		return Key{}, fault.New(fault.Invalid, "an id has 1 to %d bytes of text", aggregate.MaxID).WithCode("invalid_id")
	}
	return Key{from.Tenant(), k.Name, string(id)}, nil
}

// live returns the record of an aggregate that can be seen.
func (k Kind[ID, A]) live(ctx context.Context, from Reading, id ID) (Record, error) {
	key, err := k.key(from, id)
	if err != nil {
		return Record{}, err
	}
	r, err := from.record(ctx, key)
	if err == nil && (!r.DeletedAt.IsZero() || r.Expired(from.now())) {
		return Record{}, ErrNotFound
	}
	return r, err
}

func (k Kind[ID, A]) record(a *A, events []aggregate.Event) {
	for _, e := range events {
		k.Root(a).Record(e)
	}
}

func (k Kind[ID, A]) fields(a *A) []spec.Value {
	values := make([]spec.Value, len(k.Columns))
	for i, c := range k.Columns {
		values[i] = c.Of(a)
	}
	return values
}

// save buffers the aggregate and its events, and brings its Root up to date.
func (k Kind[ID, A]) save(tx *Tx, key Key, a *A) error {
	doc, err := json.Marshal(a)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "one of the %s cannot be encoded", k.Name)
	}
	root := k.Root(a)
	old, known := tx.seen[key]
	if known && old.Version > 0 && len(root.Events()) == 0 && root.DeletedAt.Equal(old.DeletedAt) && string(doc) == string(old.Doc) && !old.Expired(tx.started) {
		return nil
	}
	for _, e := range root.TakeEvents() {
		root.Sequence++
		if err := tx.emit(key, root.Sequence, e, k.Keep); err != nil {
			return err
		}
	}
	root.Tenant, root.UpdatedAt, root.UpdatedBy = key.Tenant, tx.started, tx.scope.Actor
	r := Record{Key: key, Sequence: root.Sequence, CreatedAt: root.CreatedAt, CreatedBy: root.CreatedBy,
		UpdatedAt: root.UpdatedAt, UpdatedBy: root.UpdatedBy, DeletedAt: root.DeletedAt, Doc: doc, Fields: k.fields(a)}
	if k.Expires != nil {
		if at := k.Expires(a); !at.IsZero() {
			r.ExpiresAt = at.UTC().Truncate(time.Microsecond)
		}
	}
	tx.write(r, false)
	root.Version = tx.seen[key].Version
	return nil
}

// decode makes the aggregate of a record.
func (k Kind[ID, A]) decode(r Record) (A, error) {
	var a A
	if k.Room != nil {
		k.Room(&a, r.Doc)
	}
	if err := json.Unmarshal(r.Doc, &a); err != nil {
		return a, fault.Wrap(fault.Internal, err, "one of the %s cannot be decoded", k.Name)
	}
	root := k.Root(&a)
	root.ID, root.Tenant, root.Version, root.Sequence = ID(r.ID), r.Tenant, r.Version, r.Sequence
	root.CreatedAt, root.CreatedBy, root.UpdatedAt, root.UpdatedBy, root.DeletedAt = r.CreatedAt, r.CreatedBy, r.UpdatedAt, r.UpdatedBy, r.DeletedAt
	return a, nil
}
