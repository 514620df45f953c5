package rollout

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"sluice/internal/inference/route"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a catalog of one model, m, whose versions have digests d1, d2, ….
type shelf struct {
	mu    sync.Mutex
	steps map[int64]bool
	most  int64
}

func (s *shelf) Find(model, version string) (Artifact, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := strconv.ParseInt(version, 10, 64)
	switch {
	case model != "m":
		return Artifact{}, fault.New(fault.NotFound, "no model").WithCode("model_not_found")
	case err != nil || n < 1 || n > s.most:
		return Artifact{}, fault.New(fault.NotFound, "no version").WithCode("version_not_found")
	}
	return Artifact{Version: n, Digest: digest(n), Steps: s.steps[n], Graph: n == graphVersion}, nil
}

// graphVersion is the version of m that is a graph.
const graphVersion = 4

func digest(n int64) string { return "d" + strconv.FormatInt(n, 10) }

// clock is a time that goes on by a second with every look.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) next() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

// fataling is a *testing.T or a *rapid.T.
type fataling interface {
	Helper()
	Fatal(args ...any)
}

// bed is a store that changes one aggregate at a time, with a bus and people.
type bed struct {
	store *repo.Store
	bus   *cqrs.Bus
	clock *clock
	shelf *shelf

	driver *doubtful
}

// doubtful is a store that does not say whether it kept what changes a kind.
type doubtful struct {
	repo.Driver
	kind string
	lose bool // and has not
	deaf bool // histories cannot be read
}

func (d *doubtful) History(ctx context.Context, key repo.Key, after int64, limit int) ([]repo.Message, error) {
	if d.deaf {
		return nil, fault.New(fault.Unavailable, "the store cannot be reached").WithCode("store_unavailable")
	}
	return d.Driver.History(ctx, key, after, limit)
}

func (d *doubtful) Commit(ctx context.Context, c *repo.Changeset) error {
	if !slices.ContainsFunc(c.Puts, func(p repo.Put) bool { return p.Kind == d.kind }) {
		return d.Driver.Commit(ctx, c)
	}
	if !d.lose {
		if err := d.Driver.Commit(ctx, c); err != nil {
			return err
		}
	}
	return repo.ErrOutcomeUnknown
}

func newBed(t fataling) *bed {
	t.Helper()
	b := &bed{clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, shelf: &shelf{most: 5, steps: map[int64]bool{5: true}}}
	b.driver = &doubtful{Driver: memrepo.New(memrepo.Config{OneAggregate: true})}
	b.store = repo.New(b.driver, repo.Config{Now: b.clock.next})
	var err error
	b.bus, err = cqrs.NewBus(b.store, cqrs.Config{AuditKey: []byte("key"), Origin: func(ctx context.Context) cqrs.Origin {
		operation, _ := ctx.Value(repeated{}).(uuid.UUID)
		return cqrs.Origin{Operation: operation}
	}})
	if err != nil {
		t.Fatal(err)
	}
	Register(b.bus, b.shelf)
	return b
}

// repeated has a context be that of one request, whatever is sent with it.
type repeated struct{}

// as is the context of somebody who may do everything.
func as(subject string) context.Context {
	return access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: subject, Permissions: access.SetOf(Read, Write, Approve)})
}

// set points an alias of m to a version, whatever it was before.
func (b *bed) set(t fataling, by, alias, version string, protected bool) *LoadedAlias {
	t.Helper()
	_, err := cqrs.Ask(as(by), b.bus, FindAlias{Model: "m", Alias: alias})
	a, err := cqrs.Send(as(by), b.bus, SetAlias{Model: "m", Alias: alias, Version: version, Protected: &protected, Expect: Expectation{Absent: err != nil, Any: err == nil}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// router keeps the latest names.
type router struct {
	mu    sync.Mutex
	names map[string]route.Names
	swaps int
	told  chan struct{}
}

func (r *router) Name(names map[string]route.Names) {
	r.mu.Lock()
	r.names = names
	r.swaps++
	r.mu.Unlock()
	select {
	case r.told <- struct{}{}:
	default:
	}
}

// version returns what an alias of m is routed to, 0 for nothing.
func (r *router) version(alias string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names["m"][alias].Version
}
