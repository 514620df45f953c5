package export

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/access"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

const canSee access.Permission = "things:read"

// bed is a service whose clock stands, with a dataset of so many rows.
type bed struct {
	*Service
	clock  *clock
	bucket *mortal
	things *things
	ctx    context.Context
}

// clock stands until it is put forward, by whatever goroutine.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (b *bed) time() time.Time {
	b.clock.mu.Lock()
	defer b.clock.mu.Unlock()
	return b.clock.now
}

func (b *bed) pass(d time.Duration) {
	b.clock.mu.Lock()
	defer b.clock.mu.Unlock()
	b.clock.now = b.clock.now.Add(d)
}

// mortal is a bucket whose process dies after so many writes.
type mortal struct {
	*memblob.Bucket
	mu   sync.Mutex
	left int // writes; negative is for ever
	dead bool
}

// lives has it die after so many writes more; -1 is for ever.
func (m *mortal) lives(writes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.dead = writes, false
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

var errDead = fault.New(fault.Unavailable, "the process is dead")

func (m *mortal) write(do func() error) error {
	if m.isDead() {
		return errDead
	}
	err := do()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left--; m.left == 0 {
		m.dead = true
		return errDead // it was done, and nobody learns it
	}
	return err
}

func (m *mortal) Put(ctx context.Context, key string, body io.Reader, o blob.PutOptions) (info blob.Info, err error) {
	return info, m.write(func() (err error) { info, err = m.Bucket.Put(ctx, key, body, o); return err })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	if m.isDead() {
		return errDead
	}
	return m.Bucket.Delete(ctx, key)
}

// deathly is a store that is as dead as the bucket.
type deathly struct {
	repo.Driver
	*mortal
}

func (d deathly) Commit(ctx context.Context, c *repo.Changeset) error {
	return d.write(func() error { return d.Driver.Commit(ctx, c) })
}

func (d deathly) Close() error { return d.Driver.Close() }

// things is a dataset of plain rows.
type things struct {
	rows    int
	missing int                                  // rows that the store counts, and the scan does not see
	each    func(ctx context.Context, chunk int) // called before each chunk, if there is one
	count   func(ctx context.Context) error      // called where rows are counted, if there is one
	tenant  atomic.Value                         // that was last scanned
}

type thingScan struct {
	*things
	at, chunk int
}

func (s *thingScan) Schema() table.Schema { return tabletest.Plain }
func (s *thingScan) Seen() int64          { return int64(s.at) }

func (s *thingScan) Count(ctx context.Context) (int64, error) {
	if s.count != nil {
		if err := s.count(ctx); err != nil {
			return 0, err
		}
	}
	return int64(s.rows + s.missing), nil
}

func (s *thingScan) Read(ctx context.Context, into *table.Chunk) error {
	if s.at == s.rows {
		return io.EOF
	}
	if s.each != nil {
		s.each(ctx, s.chunk)
	}
	s.chunk++
	n := min(700, s.rows-s.at)
	tabletest.FillPlain(into, s.at, n)
	s.at += n
	return ctx.Err()
}

func newBed(t testing.TB, rows int, cfg Config) *bed {
	t.Helper()
	b := &bed{clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, things: &things{rows: rows}}
	b.bucket = &mortal{Bucket: memblob.New(memblob.Config{Now: b.time}), left: -1}
	store := repo.New(deathly{memrepo.New(memrepo.Config{OneAggregate: true}), b.bucket}, repo.Config{Now: b.time})
	bus, err := cqrs.NewBus(store, cqrs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d := &Dataset{Name: "things", About: "Things.", Permission: canSee, Schema: tabletest.Plain, Time: "created_at",
		Open: func(_ context.Context, tenant string, _ Slice) (Scan, error) {
			b.things.tenant.Store(tenant)
			return &thingScan{things: b.things}, nil
		}}
	if b.Service, err = New(store, bus, b.bucket, []*Dataset{d}, cfg); err != nil {
		t.Fatal(err)
	}
	b.ctx = as(t.Context(), "acme", Read, Write, canSee)
	return b
}

func as(ctx context.Context, tenant string, permissions ...access.Permission) context.Context {
	return access.With(ctx, &access.Principal{Tenant: tenant, Subject: "key_1", Permissions: access.SetOf(permissions...)})
}

// create asks for an export, and leaves it to the test to run it.
func (b *bed) create(t testing.TB, r Request) *Export {
	t.Helper()
	r.Dataset = "things"
	e, err := b.Create(b.ctx, Create{Request: r})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bed) run(id ID) { b.runUntil(context.Background(), id) }

// runUntil is what a worker does that is told of an export, until ctx ends. That the
// store fails is the test's own doing.
func (b *bed) runUntil(ctx context.Context, id ID) {
	_ = b.attempt(ctx, repo.Scope{Tenant: "acme", Actor: "system"}, id, func(context.Context) error { return nil })
}

func (b *bed) find(t testing.TB, id ID) *Export {
	t.Helper()
	e, err := b.Find(b.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// files are the contents of an export's parts.
func (b *bed) files(t testing.TB, e *Export) (all [][]byte) {
	t.Helper()
	for i := range e.Parts {
		_, _, open, err := b.Content(b.ctx, e.ID, i+1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := open(b.ctx, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
	return all
}

// objects are the keys in the bucket.
func (b *bed) objects(t testing.TB) (keys []string) {
	t.Helper()
	for info, err := range b.bucket.List(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}
