// Package repo keeps aggregates: repositories, units of work, the outbox and
// the inbox, over any store that can commit a changeset as a whole.
//
// A unit of work is a buffer of writes. Store.Do runs a function against what
// is committed and what the function itself has written; at its end everything
// goes to the store's Driver as one Changeset, which happens as a whole or not
// at all. Versions are checked then, and where another unit of work came first
// the function runs again. So no transaction is open while the function runs,
// a Driver is small, and one that can only commit a single partition, as CQL,
// behaves as one that has transactions.
//
//	var Tenants = repo.Kind[TenantID, Tenant]{Name: "tenants", Root: …, Columns: …}
//
//	err := store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
//		_, err := Tenants.Update(ctx, tx, id, func(t *Tenant) error { return t.Rename(name) })
//		return err
//	})
//
// Limits: what a unit of work reads but does not change is not checked at the
// commit unless Tx.Require says so, so write skew is possible. Whether several
// aggregates may change in one unit of work is a Feature of the driver.
package repo

import (
	"context"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
)

// Key is the identity of an aggregate in a store. The tenant comes first, and
// only ever from a Scope.
type Key struct {
	Tenant string `json:"tenant"` // empty for what belongs to the platform
	Kind   string `json:"kind"`
	ID     string `json:"id"`
}

// Record is an aggregate as drivers keep it. Times are in UTC and whole
// microseconds; a zero time means never.
type Record struct {
	Key
	Version   int64 // from 1
	Sequence  int64 // of the last event
	CreatedAt time.Time
	CreatedBy string
	UpdatedAt time.Time
	UpdatedBy string
	DeletedAt time.Time
	ExpiresAt time.Time    // from then on it is as if it were not there, and Purge may remove it
	Doc       []byte       // the aggregate's own state, as JSON
	Fields    []spec.Value // of its Schema's columns, in their order
}

// Expired says whether the record's time is over.
func (r *Record) Expired(now time.Time) bool {
	return !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt)
}

// Schema is what a driver has to know of a kind of aggregates: its name, in
// lower case with underscores, and the columns that queries may use. A column
// that is added later is filled by Migrate; one is never renamed or retyped.
type Schema struct {
	Kind    string
	Columns []Column
	// Refill computes the columns of an older record from its Doc.
	Refill func(*Record) error
}

// Column is one queryable field.
type Column struct {
	Name string // lower case with underscores
	Type spec.Type
}

// Index returns the place of a column, -1 where there is none.
func (s *Schema) Index(column string) int {
	for i, c := range s.Columns {
		if c.Name == column {
			return i
		}
	}
	return -1
}

// Put writes a record whose version in the store has to be Expect, 0 for one
// that must not be there. Erase removes it instead, history and all.
type Put struct {
	Record
	Expect int64
	Erase  bool
}

// Check demands that a record which is not written has still this version, 0
// that it is not there.
type Check struct {
	Key
	Version int64
}

// Mark notes in the inbox that a consumer has handled a message. It fails the
// changeset with ErrProcessed where it is there already.
type Mark struct {
	Consumer, Message string
	ExpiresAt         time.Time // when it may be forgotten
}

// Changeset is all that a unit of work changes. A driver commits it as a whole
// or not at all. A mark is found again whatever the changeset puts beside it.
type Changeset struct {
	ID       string // unique; how a driver finds out what became of a commit whose outcome it lost
	Puts     []Put
	Checks   []Check
	Messages []Message
	Marks    []Mark
}

// Empty says whether there is nothing to commit.
func (c *Changeset) Empty() bool {
	return len(c.Puts) == 0 && len(c.Messages) == 0 && len(c.Marks) == 0
}

// What Commit fails with, wrapped or as it is, beside Unavailable for a store
// that cannot be reached and Exhausted for one that is full.
var (
	// ErrConflict: a version is not the expected one. The unit of work may run again.
	ErrConflict = fault.New(fault.Conflict, "it was changed by somebody else at the same time: try again").WithCode("write_conflict")
	// ErrExists: a record that must not be there is.
	ErrExists = fault.New(fault.Conflict, "it exists already").WithCode("already_exists")
	// ErrProcessed: a mark is there already.
	ErrProcessed = fault.New(fault.Conflict, "the message was handled before").WithCode("already_processed")
	// ErrOutcomeUnknown: the commit may have happened or not, and the store cannot say.
	ErrOutcomeUnknown = fault.New(fault.Unavailable, "the store did not say whether it kept the change: look, and repeat it with the same Idempotency-Key").WithCode("outcome_unknown")
)

// ErrNotFound is what Get fails with. Who asks for another tenant's thing gets it, too.
var ErrNotFound = fault.New(fault.NotFound, "there is no such thing").WithCode("not_found")

// errErasedHere is what Add fails with where its unit of work has erased what had
// the id: the events of the two could not be told apart.
var errErasedHere = fault.New(fault.Conflict, "it was erased in the same unit of work: add it in another").WithCode("erased_here")

// Features is what a driver can do beyond the least.
type Features struct {
	MultiAggregate bool // a changeset may put or check several aggregates; otherwise it is refused with code "one_aggregate_only"
	AnyQuery       bool // every rule and order is answered; otherwise some are refused with spec.ErrUnsupported
	Summaries      bool // Summarise is answered
	PromptQueries  bool // Find sees a commit as soon as it has returned; otherwise within moments
	Durable        bool // what is committed survives the process
}

// Reader is the reading part of a Driver. Reads see whole changesets only.
type Reader interface {
	// Get returns the record, deleted and expired ones too, or ErrNotFound.
	Get(ctx context.Context, key Key) (Record, error)
	// Find returns the records that a query selects, in its order.
	Find(ctx context.Context, s *Schema, q *FindQuery) ([]Record, error)
	// Summarise returns the groups of a summary, in order.
	Summarise(ctx context.Context, s *Schema, q *SummaryQuery) ([]spec.Group, error)
	// History returns the kept messages of an aggregate with a sequence above
	// after, in order, at most limit.
	History(ctx context.Context, key Key, after int64, limit int) ([]Message, error)
}

// Outbox is where a driver keeps messages until a relay has published them,
// split into shards so that several relays can share the work; an aggregate's
// messages are all in one shard.
type Outbox interface {
	// Shards returns the number of shards; it never changes for a store.
	Shards() int
	// Pending returns messages that were not published yet: those of one
	// aggregate without gaps and in order, at most limit.
	Pending(ctx context.Context, shard, limit int) ([]Message, error)
	// Published notes that the messages were; they are kept for Republish.
	Published(ctx context.Context, shard int, ids []Message, at time.Time) error
	// Republish makes messages pending again that were published within so long
	// before the last that was, and at since or later, and returns how many: the
	// queue may have lost them.
	Republish(ctx context.Context, shard int, within time.Duration, since time.Time) (int, error)
	// Trim forgets messages that were published before, and returns how many
	// it has forgotten, at most limit.
	Trim(ctx context.Context, shard int, before time.Time, limit int) (int, error)
	// Backlog returns how many messages of the shard are pending and the time of
	// the oldest, zero for none.
	Backlog(ctx context.Context, shard int) (int, time.Time, error)
	// Changed returns a channel that receives after this process has committed
	// messages; it may miss those of other processes.
	Changed() <-chan struct{}
}

// Driver is a store. It is safe for concurrent use.
type Driver interface {
	Reader
	Outbox
	// Commit makes the changeset's changes durable, all or none. Where ctx ends
	// before the commit has begun nothing happens; afterwards it is finished.
	Commit(ctx context.Context, c *Changeset) error
	// Migrate brings the store to the form that these kinds need. It is called
	// before anything else, maybe by several processes at once.
	Migrate(ctx context.Context, schemas []*Schema) error
	// Purge removes records of a kind, and marks where kind is empty, that have
	// expired before now, at most limit, and returns how many; none where the store
	// forgets them by itself.
	Purge(ctx context.Context, kind string, now time.Time, limit int) (int, error)
	Features() Features
	// Ping says whether the store can be used.
	Ping(ctx context.Context) error
	Close() error
}
