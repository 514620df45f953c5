package repo

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// Reading is what aggregates can be read from: a Tx, or a Store's committed
// state.
type Reading interface {
	// Tenant returns the tenant whose aggregates are read.
	Tenant() string

	now() time.Time
	record(ctx context.Context, key Key) (Record, error)
	records(ctx context.Context, s *Schema, q *FindQuery) ([]Record, error)
	groups(ctx context.Context, s *Schema, q *SummaryQuery) ([]spec.Group, error)
	history(ctx context.Context, key Key, after int64, limit int) ([]Message, error)
}

// view reads committed state.
type view struct {
	store *Store
	scope Scope
}

func (v view) Tenant() string { return v.scope.Tenant }
func (v view) now() time.Time { return v.store.Now() }

func (v view) record(ctx context.Context, key Key) (Record, error) {
	return v.store.driver.Get(ctx, key)
}

func (v view) records(ctx context.Context, s *Schema, q *FindQuery) ([]Record, error) {
	return v.store.driver.Find(ctx, s, q)
}

func (v view) groups(ctx context.Context, s *Schema, q *SummaryQuery) ([]spec.Group, error) {
	return v.store.driver.Summarise(ctx, s, q)
}

func (v view) history(ctx context.Context, key Key, after int64, limit int) ([]Message, error) {
	return v.store.driver.History(ctx, key, after, limit)
}

// Tx is a unit of work: it reads committed state and its own writes. It is for
// one goroutine, and ends with the function that it was given to.
type Tx struct {
	view
	buffer
	started time.Time
	careful bool // an earlier run found something where it was hopeful
	ids     int  // made so far
}

// buffer is what a Tx has read and written; a savepoint is a copy of it.
type buffer struct {
	seen     map[Key]entry // as of the first read or the last write
	written  []Key         // in the order of the first write
	messages []Message
	marks    []Mark
	required []Key
	after    []func()
	hopeful  bool // it adds something without having looked whether there is one that has expired
}

// entry is a record as the unit of work sees it.
type entry struct {
	Record
	base    int64 // the version in the store, 0 for none
	written bool
	erased  bool
}

func newTx(s *Store, scope Scope) *Tx {
	return &Tx{view: view{s, scope}, buffer: buffer{seen: map[Key]entry{}}, started: s.Now()}
}

// Scope returns for whom and by whom the unit of work is done.
func (tx *Tx) Scope() Scope { return tx.scope }

// Now returns when the unit of work began: all that it changes is changed then.
func (tx *Tx) Now() time.Time { return tx.started }

func (tx *Tx) now() time.Time { return tx.started }

// NewID returns a new id. The n-th id of an operation is the same each time
// that it runs.
func NewID[ID ~string](tx *Tx, prefix string) ID {
	return aggregate.NewID[ID](prefix, tx.derive())
}

func (tx *Tx) derive() uuid.UUID {
	tx.ids++
	return aggregate.Derive(tx.scope.Operation, tx.ids-1)
}

// Do runs fn as a part of the unit of work: where fn fails or panics what it
// has written is forgotten, and the rest goes on.
func (tx *Tx) Do(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) (err error) {
	saved := tx.buffer
	saved.seen = maps.Clone(tx.seen)
	saved.written = slices.Clip(tx.written)
	saved.messages = slices.Clip(tx.messages)
	saved.marks, saved.required, saved.after = slices.Clip(tx.marks), slices.Clip(tx.required), slices.Clip(tx.after)
	failed := true
	defer func() {
		if failed {
			tx.buffer = saved
		}
	}()
	err = fn(ctx, tx)
	failed = err != nil
	return err
}

// AfterCommit has f called once what the unit of work wrote is durable.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// Publish puts a message into the outbox that is no aggregate's event. Its time
// and origin are set here, and its id where it has none.
func (tx *Tx) Publish(m Message) error {
	if m.Stream == "" || m.Type == "" || !json.Valid(m.Data) {
		return fault.New(fault.Internal, "a message needs a stream, a type and data that is JSON")
	}
	if m.ID == "" {
		m.ID = string(NewID[messageID](tx, "evt"))
	}
	if m.Kind == "" {
		m.Key = Key{tx.Tenant(), m.Stream, m.ID}
	}
	m.Tenant = tx.Tenant()
	m.Version = max(m.Version, 1)
	return tx.send(m)
}

// MaxMessage is the most bytes of a message's data: what every queue takes.
const MaxMessage = 512 << 10

func (tx *Tx) send(m Message) error {
	if len(m.Data) > MaxMessage {
		return fault.New(fault.TooLarge, "the message %s has %d bytes of data, more than %d: keep what is large as an object and name it", m.Type, len(m.Data), MaxMessage).
			WithCode("message_too_large")
	}
	tx.stamp(&m)
	tx.messages = append(tx.messages, m)
	return nil
}

type messageID string

func (tx *Tx) stamp(m *Message) {
	s := tx.scope
	m.Time, m.Actor, m.Request, m.Correlation, m.Causation, m.TraceParent = tx.started, s.Actor, s.Request, s.Correlation, s.Causation, s.TraceParent
}

// emit puts an aggregate's event into the outbox.
func (tx *Tx) emit(key Key, sequence int64, e aggregate.Event, keep bool) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the event %s of a %s cannot be encoded", e.EventType(), key.Kind)
	}
	return tx.send(Message{ID: string(NewID[messageID](tx, "evt")), Key: key, Sequence: sequence, Stream: StreamEvents,
		Type: e.EventType(), Version: aggregate.VersionOf(e), Data: data, Keep: keep})
}

// record returns a record as the unit of work sees it. It reads each from the
// store once: what it has seen does not change under it.
func (tx *Tx) record(ctx context.Context, key Key) (Record, error) {
	if e, ok := tx.seen[key]; ok {
		if e.Version == 0 || e.erased {
			return Record{}, ErrNotFound
		}
		return e.Record, nil
	}
	r, err := tx.view.record(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return r, err
	}
	tx.seen[key] = entry{Record: r, base: r.Version}
	return r, err
}

// write buffers a record that was read, or is new.
func (tx *Tx) write(r Record, erase bool) {
	e := tx.seen[r.Key]
	if !e.written {
		tx.written = append(tx.written, r.Key)
	}
	r.Version = e.base + 1
	e.Record, e.written, e.erased = r, true, erase
	tx.seen[r.Key] = e
}

// require has the commit fail where the record is not as it was read.
func (tx *Tx) require(key Key) {
	if !slices.Contains(tx.required, key) {
		tx.required = append(tx.required, key)
	}
}

// changeset is what the unit of work changes.
func (tx *Tx) changeset() *Changeset {
	c := &Changeset{ID: tx.scope.Operation.String(), Messages: tx.messages, Marks: tx.marks}
	for _, key := range tx.written {
		e := tx.seen[key]
		if e.erased && e.base == 0 {
			continue // made and erased within the unit of work
		}
		c.Puts = append(c.Puts, Put{e.Record, e.base, e.erased})
	}
	// What is erased leaves no history, not even of this unit of work.
	for i, m := range c.Messages {
		if m.Keep && tx.seen[m.Key].erased {
			c.Messages[i].Keep = false
		}
	}
	for _, key := range tx.required {
		if e := tx.seen[key]; !e.written {
			c.Checks = append(c.Checks, Check{key, e.base})
		}
	}
	return c
}

// Changes returns the keys of what was written so far, in the order of the first
// write.
func (tx *Tx) Changes() []Key { return tx.written }

// Messages returns what was put into the outbox so far.
func (tx *Tx) Messages() []Message { return tx.messages }

func (tx *Tx) keys() []Key { return slices.Concat(tx.written, tx.required) }

func (tx *Tx) committed() {
	for _, f := range tx.after {
		f()
	}
}

// records answers a query over committed state and what was written here.
func (tx *Tx) records(ctx context.Context, s *Schema, q *FindQuery) ([]Record, error) {
	own := 0
	for _, key := range tx.written {
		if key.Kind == s.Kind {
			own++
		}
	}
	wider := *q
	wider.Limit += own
	found, err := tx.view.records(ctx, s, &wider)
	if err != nil || own == 0 {
		return found, err
	}
	found = slices.DeleteFunc(found, func(r Record) bool { return tx.seen[r.Key].written })
	for _, key := range tx.written {
		if e := tx.seen[key]; !e.erased && q.Selects(s, &e.Record) {
			found = append(found, e.Record)
		}
	}
	slices.SortFunc(found, func(a, b Record) int { return q.Compare(s, &a, &b) })
	return found[:min(len(found), q.Limit)], nil
}

// groups refuses to count what is only partly committed.
func (tx *Tx) groups(ctx context.Context, s *Schema, q *SummaryQuery) ([]spec.Group, error) {
	if slices.ContainsFunc(tx.written, func(k Key) bool { return k.Kind == s.Kind }) {
		return nil, spec.Unsupported("%s were changed in the same unit of work: summarise before or after", s.Kind)
	}
	return tx.view.groups(ctx, s, q)
}
