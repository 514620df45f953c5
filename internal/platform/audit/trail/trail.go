// Package trail takes audit entries from the queue into the tamper-evident log,
// and keeps a read model of them that can be searched.
//
// The log is the evidence, the read model a convenience: it can be built anew
// from the log. One process at a time writes the log, by a lease; should another
// take over, the log itself refuses the first one's next append.
package trail

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Read is the permission to search the entries of one's tenant.
const Read access.Permission = "audit:read"

// EntryID is the id of the event that an entry is about.
type EntryID string

// Entry is an audit entry in the read model.
type Entry struct {
	aggregate.Root[EntryID]
	audit.Entry
	Index int64 // in the log
}

// Entries is the read model. An entry belongs to the tenant that it names.
var Entries = repo.Kind[EntryID, Entry]{
	Name: "audit_entries", Root: func(e *Entry) *aggregate.Root[EntryID] { return &e.Root },
	Columns: []spec.Column[Entry]{
		spec.TimeField("time", func(e *Entry) time.Time { return e.Time }),
		spec.TextField("actor", func(e *Entry) string { return e.Actor }),
		spec.TextField("action", func(e *Entry) string { return e.Action }),
		spec.TextField("kind", func(e *Entry) string { return e.Kind }),
		spec.TextField("resource", func(e *Entry) string { return e.Resource }),
		spec.TextField("outcome", func(e *Entry) string { return string(e.Outcome) }),
	},
}

// Stream is the stream that the relay publishes audit entries to.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	return queue.Stream{Name: "AUDIT", Subjects: []string{repo.StreamAudit + ".>"}, Retention: queue.Work, Discard: queue.Refuse,
		Replicas: replicas, Duplicates: duplicates}
}

// Config holds what a Trail may be given.
type Config struct {
	Owner string        // this process; default a random name
	Lease time.Duration // of the log; default 10s
	Log   audit.Config
	// Shared is where every process can read the log, as from a bucket; nil where
	// only the one can that writes it.
	Shared audit.Storage
	Slog   *slog.Logger // nil discards
}

// Trail is the consumer.
type Trail struct {
	store *repo.Store
	queue queue.Consuming
	open  Open
	key   audit.Key
	cfg   Config

	mu      sync.RWMutex
	log     *audit.Log // nil while another process writes it
	storage audit.Storage
}

// Open opens where the log lies, and returns how to close it.
type Open func() (audit.Storage, func() error, error)

// New returns a trail from the queue to the log in a storage, signed with the
// key. The store must have been migrated with the schema of Entries.
func New(store *repo.Store, q queue.Consuming, open Open, key audit.Key, cfg Config) *Trail {
	if cfg.Owner == "" {
		cfg.Owner = "trail-" + repo.RandomName()
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 10 * time.Second
	}
	if cfg.Slog == nil {
		cfg.Slog = slog.New(slog.DiscardHandler)
	}
	return &Trail{store: store, queue: q, open: open, key: key, cfg: cfg, storage: cfg.Shared}
}

// Run writes the log, whenever no other process does, until ctx ends.
func (t *Trail) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := t.store.Acquire(ctx, "audit-log", t.cfg.Owner, t.cfg.Lease)
		if err == nil {
			err = lease.Hold(ctx, t.cfg.Lease, t.write)
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			t.cfg.Slog.WarnContext(ctx, "the audit log cannot be written; entries wait in the queue", "error", err)
		}
		pause.For(ctx, t.cfg.Lease/3)
	}
	return nil
}

// concurrency is how many entries are on their way into the log at once. It bounds
// how many share a checkpoint.
const concurrency = 1024

// write opens the log and consumes until ctx ends.
func (t *Trail) write(ctx context.Context) (err error) {
	storage, closeStorage, err := t.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStorage()) }()
	log, err := audit.Open(ctx, storage, t.key, t.cfg.Log)
	if err != nil {
		return err
	}
	t.use(log, storage)
	defer t.use(nil, t.cfg.Shared)
	arrivals := make(chan *arrival)
	var gathering sync.WaitGroup
	gathering.Go(func() { t.gather(context.WithoutCancel(ctx), arrivals) })
	defer gathering.Wait()
	defer close(arrivals)
	consumer := queue.Consumer{Name: "audit-log", Stream: "AUDIT", Concurrency: concurrency, Repeatable: true, MaxAttempts: maxAttempts,
		Backoff: queue.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second}}
	return t.queue.Consume(ctx, consumer, func(ctx context.Context, d queue.Delivery) error { return handle(ctx, d, arrivals) })
}

// maxAttempts is so high that no outage makes dead letters of entries; only what
// is no entry at all becomes one, at once.
const maxAttempts = 1 << 20

// handle hands one entry over and waits for what becomes of it.
func handle(ctx context.Context, d queue.Delivery, arrivals chan<- *arrival) error {
	m, err := relay.Decode(&d.Message)
	if err != nil {
		return err
	}
	entry, err := audit.Decode(m.Data)
	if err != nil {
		return err
	}
	a := &arrival{entry: entry, cause: m.ID, done: make(chan error, 1)}
	select {
	case arrivals <- a:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err = <-a.done:
		return err
	case <-ctx.Done(): // what has become of it shows when it comes again
		return context.Cause(ctx)
	}
}

// use sets what this process can reach.
func (t *Trail) use(log *audit.Log, storage audit.Storage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log, t.storage = log, storage
}

// current returns the log, where this process writes it.
func (t *Trail) current() (*audit.Log, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.log == nil {
		return nil, errNotWriter
	}
	return t.log, nil
}

var errNotWriter error = fault.New(fault.Unavailable, "another process writes the audit log: ask that one, or try again where this one is about to take over").
	WithCode("audit_not_writer").WithRetryAfter(5 * time.Second)
