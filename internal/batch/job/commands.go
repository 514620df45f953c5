package job

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of batches.
const (
	Read  access.Permission = "batches:read"
	Write access.Permission = "batches:write"
)

// Permissions declares them.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: Read, About: "read batches and their results", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: Write, About: "have models answer files of rows", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
	}
}

// Where it is said that there may be something to do.
const (
	streamBatches = "batches" // in the outbox
	// StreamName is the stream in the queue.
	StreamName = "BATCHES"
)

// Stream is the stream of those messages. It keeps what nobody has handled.
func Stream(replicas int, duplicates time.Duration) queue.Stream {
	const room = 16 << 20 // a batch has a few hints at a time
	return queue.Stream{Name: StreamName, Subjects: []string{streamBatches + ".>"}, Retention: queue.Work, Discard: queue.Refuse, MaxBytes: room, Replicas: replicas, Duplicates: duplicates}
}

// Config holds what is common to all that deals with batches; the zero value has
// defaults.
type Config struct {
	Timing
	MaxOpen int // batches of a tenant that have not ended; default 16
	// Used counts what a tenant's rows took of a model in the commit that counts
	// them, and a batch that ends for the first time; nil counts nothing.
	Used func(tx *repo.Tx, b *Batch, u Used, ended bool) error
}

// WithDefaults returns the settings that hold.
func (c Config) WithDefaults() Config {
	c.Timing = c.Timing.withDefaults()
	if c.MaxOpen <= 0 {
		c.MaxOpen = 16
	}
	if c.Used == nil {
		c.Used = func(*repo.Tx, *Batch, Used, bool) error { return nil }
	}
	return c
}

// Submit accepts a batch, whose ID its input was kept for.
type Submit struct {
	cqrs.Returns[*Batch]
	Batch Batch
}

// CommandName implements cqrs.Command.
func (Submit) CommandName() string { return "batches.submit" }

// Of names the batch that a command is about.
type Of struct {
	cqrs.Returns[*Batch]
	ID ID
}

// Target implements cqrs.Targeted.
func (o Of) Target() (kind, id string) { return Batches.Name, string(o.ID) }

// Cancel says that a batch is wanted no more.
type Cancel struct{ Of }

// CommandName implements cqrs.Command.
func (Cancel) CommandName() string { return "batches.cancel" }

// Pause has no more of a batch begun until Resume.
type Pause struct{ Of }

// CommandName implements cqrs.Command.
func (Pause) CommandName() string { return "batches.pause" }

// Resume goes on with a batch after Pause.
type Resume struct{ Of }

// CommandName implements cqrs.Command.
func (Resume) CommandName() string { return "batches.resume" }

// Retry runs the rows of a batch again that have not succeeded.
type Retry struct{ Of }

// CommandName implements cqrs.Command.
func (Retry) CommandName() string { return "batches.retry" }

// Find asks for one batch.
type Find struct {
	cqrs.Returns[*Batch]
	ID ID
}

// QueryName implements cqrs.Query.
func (Find) QueryName() string { return "batches.read" }

// List asks for a page of batches; what is empty selects nothing.
type List struct {
	cqrs.Returns[spec.Page[Batch]]
	Status Status
	Model  string
	Query  spec.Query[Batch]
}

// QueryName implements cqrs.Query.
func (List) QueryName() string { return "batches.list" }

// Register adds the commands and queries to the bus.
func Register(bus *cqrs.Bus, cfg Config) {
	cfg = cfg.WithDefaults()
	cqrs.Handle(bus, Write, func(ctx context.Context, tx *repo.Tx, c Submit) (*Batch, error) {
		if err := room(ctx, tx, cfg.MaxOpen); err != nil {
			return nil, err
		}
		b := c.Batch
		b.Accept(tx.Now(), cfg.Timing)
		if err := Batches.Add(ctx, tx, &b); err != nil {
			return nil, err
		}
		return &b, Announce(tx, &b, 1)
	})
	cqrs.Handle(bus, Write, func(ctx context.Context, tx *repo.Tx, c Cancel) (*Batch, error) {
		return change(ctx, tx, c.Of, cfg, func(b *Batch) error { b.Cancel(tx.Now(), cfg.Timing); return nil })
	})
	cqrs.Handle(bus, Write, func(ctx context.Context, tx *repo.Tx, c Pause) (*Batch, error) {
		return change(ctx, tx, c.Of, cfg, (*Batch).Pause)
	})
	cqrs.Handle(bus, Write, func(ctx context.Context, tx *repo.Tx, c Resume) (*Batch, error) {
		return change(ctx, tx, c.Of, cfg, func(b *Batch) error { return b.Resume(tx.Now(), cfg.Timing) })
	})
	cqrs.Handle(bus, Write, func(ctx context.Context, tx *repo.Tx, c Retry) (*Batch, error) {
		if err := room(ctx, tx, cfg.MaxOpen); err != nil {
			return nil, err
		}
		return change(ctx, tx, c.Of, cfg, func(b *Batch) error { return b.Retry(tx.Now(), cfg.Timing) })
	})
	cqrs.HandleQuery(bus, Read, func(ctx context.Context, from repo.Reading, q Find) (*Batch, error) {
		b, err := Batches.Get(ctx, from, q.ID)
		return &b, err
	})
	cqrs.HandleQuery(bus, Read, func(ctx context.Context, from repo.Reading, q List) (spec.Page[Batch], error) {
		var rules []spec.Spec[Batch]
		if q.Status != "" {
			rules = append(rules, status.Eq(q.Status))
		}
		if q.Model != "" {
			rules = append(rules, model.Eq(q.Model))
		}
		if len(rules) > 0 {
			q.Query.Where = spec.And(rules...)
		}
		return Batches.Find(ctx, from, q.Query)
	})
}

// change does what a client wants, and calls a worker where there is something to do.
func change(ctx context.Context, tx *repo.Tx, of Of, cfg Config, f func(*Batch) error) (*Batch, error) {
	b, err := Update(ctx, tx, of.ID, cfg, f)
	if err != nil || b.Status.Final() {
		return &b, err
	}
	return &b, Announce(tx, &b, 1)
}

// room refuses one more open batch where the tenant has as many as it may.
func room(ctx context.Context, from repo.Reading, most int) error {
	n := 0
	for _, err := range Batches.All(ctx, from, spec.Query[Batch]{Where: open.Eq(true), Limit: most}) { // which may be more than a page
		if err != nil {
			return err
		}
		if n++; n >= most {
			return fault.New(fault.Exhausted, "%d batches of the tenant have not ended, as many as may: wait for one, or cancel one", most).WithCode("batches_open").WithRetryAfter(30 * time.Second)
		}
	}
	return nil
}

// Ahead returns how many rows of a tenant's open batches of a model have their turns
// while a batch of so many rows is run: of each as many as of that one.
func Ahead(ctx context.Context, from repo.Reading, name string, rows int64) (n int64, err error) {
	const most = 64
	page, err := Batches.Find(ctx, from, spec.Query[Batch]{Where: spec.And(model.Eq(name), open.Eq(true)), Limit: most})
	for i := range page.Items {
		b := &page.Items[i]
		pending := b.Counts.Pending()
		if b.Status == Validating && b.Quote != nil {
			pending = b.Quote.Rows
		}
		if b.Status != Paused {
			n += min(pending, rows)
		}
	}
	return n, err
}

// Update changes a batch. All that happens to one goes through here: where rows are
// counted, or it ends, that is metered in the same changeset.
func Update(ctx context.Context, tx *repo.Tx, id ID, cfg Config, f func(*Batch) error) (Batch, error) {
	var used Used
	ended := false
	b, err := Batches.Update(ctx, tx, id, func(b *Batch) error {
		before, final := b.Used, b.Status.Final()
		err := f(b)
		used = Used{b.Used.Rows - before.Rows, b.Used.ComputeUS - before.ComputeUS, b.Used.InputBytes - before.InputBytes, b.Used.OutputBytes - before.OutputBytes}
		ended = !final && b.Status.Final() && b.Retries == 0
		return err
	})
	if err != nil || used == (Used{}) && !ended {
		return b, err
	}
	return b, cfg.Used(tx, &b, used, ended)
}

// Announce says in the queue that a batch may have something to do for so many
// workers.
func Announce(tx *repo.Tx, b *Batch, workers int) error {
	for range workers {
		m := repo.Message{Stream: streamBatches, Type: "batch.due", Key: repo.Key{Kind: Batches.Name, ID: string(b.ID)}, Data: json.RawMessage("{}")}
		if err := tx.Publish(m); err != nil {
			return err
		}
	}
	return nil
}

// Remind says again what is due of one tenant, and returns how much that was.
func Remind(ctx context.Context, store *repo.Store, tenant string, cfg Config, workers int) (int, error) {
	cfg = cfg.WithDefaults()
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	n := 0
	for b, err := range Batches.All(ctx, store.Read(scope), spec.Query[Batch]{Where: due.Lt(store.Now()), Order: due.Asc()}) {
		if err != nil {
			return n, err
		}
		err := store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
			overdue := false
			now, err := Update(ctx, tx, b.ID, cfg, func(b *Batch) error { overdue = b.Remind(tx.Now(), cfg.Timing); return nil })
			if err != nil || !overdue {
				return err
			}
			called := workers
			if !now.Absent.IsZero() {
				called = 1 // looks whether the model is there
			}
			return Announce(tx, &now, called)
		})
		if err != nil && !fault.Is(err, fault.NotFound) && !errors.Is(err, repo.ErrConflict) {
			return n, err
		}
		n++
	}
	return n, nil
}

// Folder is where the objects of batches are, below their tenants'.
const Folder = "batches"

// Key returns a name for an object of a batch that nothing ever had.
func Key(tenant string, id ID) string {
	return strings.Join([]string{tenant, Folder, string(id), repo.RandomName()}, "/")
}

// Owned says whether the batch that an object was written for names it, for
// blob.SweepOrphans.
func Owned(ctx context.Context, store *repo.Store, tenant, key string) (bool, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, tenant+"/"+Folder+"/"), "/")
	b, err := Batches.Get(ctx, store.Read(repo.Scope{Tenant: tenant}), ID(id))
	if errors.Is(err, repo.ErrNotFound) || fault.CodeOf(err) == "invalid_id" {
		return false, nil
	}
	return err != nil || b.Usable(store.Now()) == nil && b.Names(key), err
}

// Names says whether an object is the batch's.
func (b *Batch) Names(key string) bool {
	if b.Input.Key == key || b.Results != nil && b.Results.Key == key {
		return true
	}
	for i := range b.Files {
		if b.Files[i].Object.Key == key {
			return true
		}
	}
	for i := range b.Chunks {
		if c := &b.Chunks[i]; c.Result.Key == key || c.Errors.Key == key || c.Twices.Key == key {
			return true
		}
	}
	return false
}
