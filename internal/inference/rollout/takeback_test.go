package rollout

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// with is the context of somebody who may do only this.
func with(subject string, may ...access.Permission) context.Context {
	return access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: subject, Permissions: access.SetOf(may...)})
}

// Who may change aliases, or approve that, need not be one who may read them.
func TestAliasesAreChangedWithoutReading(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	s.Graphs = choosy(0)
	protected := true
	coded(t, "made", second(s.SetAlias(with("key_a", Write), SetAlias{Model: "m", Alias: "champion", Version: "1", Protected: &protected, Expect: Expectation{Absent: true}})), "")
	proposed, err := s.SetAlias(with("key_a", Write), SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}})
	if coded(t, "changed", err, ""); proposed.State.Proposed == nil {
		t.Errorf("%+v", proposed.State)
	}
	approved, err := s.DecideAlias(with("key_b", Approve), DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Any: true}})
	if coded(t, "approved", err, ""); approved.State.Version != 2 {
		t.Errorf("%+v", approved.State)
	}
	coded(t, "by who may only read", second(s.SetAlias(with("key_c", Read), SetAlias{Model: "m", Alias: "champion", Version: "1", Expect: Expectation{Any: true}})), "permission_missing")
}

var errBroken = errors.New("the store is broken")

// unreadable is a store that reads nothing while it is broken.
type unreadable struct {
	repo.Driver
	broken bool
}

func (u *unreadable) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	if u.broken {
		return repo.Record{}, errBroken
	}
	return u.Driver.Get(ctx, key)
}

// A store that cannot be read fails a change, and says so.
func TestAliasesOfABrokenStore(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	b.set(t, "key_a", "champion", "1", false)
	broken := &unreadable{Driver: b.driver.Driver, broken: true}
	b.driver.Driver = broken
	if _, err := s.SetAlias(as("key_a"), SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}}); !errors.Is(err, errBroken) {
		t.Errorf("set: %v", err)
	}
	if _, err := s.DecideAlias(as("key_a"), DecideAlias{Model: "m", Alias: "champion", Approve: true, Expect: Expectation{Any: true}}); !errors.Is(err, errBroken) {
		t.Errorf("decided: %v", err)
	}
	broken.broken = false
	if a, err := cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "champion"}); err != nil || a.State.Version != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

// rushed is a store that somebody else changes just before the next commit.
type rushed struct {
	repo.Driver
	then func()
}

func (r *rushed) Commit(ctx context.Context, c *repo.Changeset) error {
	if then := r.then; then != nil {
		r.then = nil
		then()
	}
	return r.Driver.Commit(ctx, c)
}

// What is taken back is the change alone, and not what others have done just before.
func TestTakingBackKeepsWhatOthersDid(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	b.set(t, "key_a", "champion", "1", false)
	s.Graphs = &crossing{}
	b.driver.Driver = &rushed{b.driver.Driver, func() { b.set(t, "key_b", "champion", "3", false) }}
	coded(t, "the change", second(s.SetAlias(as("key_a"), SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}})), "alias_breaks_graph")
	if a, err := cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "champion"}); err != nil || a.State.Version != 3 {
		t.Errorf("%+v, %v", a.State, err)
	}
}

// gone is crossing for somebody who hangs up before the second look.
type gone struct {
	crossing
	hangUp func()
}

func (g *gone) Fits(ctx context.Context, model, alias string, version int64) error {
	if g.looks > 0 {
		g.hangUp()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return g.crossing.Fits(ctx, model, alias, version)
}

// A change is looked at behind its commit also where the caller has gone, where nobody knows
// whether it was made, and where it was made when the request was sent before.
func TestLooksBehindWhateverBecameOfIt(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	b.set(t, "key_a", "champion", "1", false)
	change := func(ctx context.Context, what, code string, version int64) {
		t.Helper()
		coded(t, what, second(s.SetAlias(ctx, SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}})), code)
		if a, err := cqrs.Ask(as("key_a"), b.bus, FindAlias{Model: "m", Alias: "champion"}); err != nil || a.State.Version != version {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	ctx, cancel := context.WithCancel(as("key_a"))
	s.Graphs = &gone{hangUp: cancel}
	change(ctx, "the caller has gone", "alias_breaks_graph", 1)

	s.Graphs = nil
	once := context.WithValue(as("key_a"), repeated{}, uuid.New())
	change(once, "no graph", "", 2)
	s.Graphs = &crossing{}
	change(once, "again", "alias_breaks_graph", 1)

	s.Graphs = &crossing{}
	unsure := &unsure{Driver: b.driver.Driver}
	b.driver.Driver = unsure
	change(as("key_a"), "who knows", "alias_breaks_graph", 1)
}

// unsure is a store that does not say whether it has kept the first change.
type unsure struct {
	repo.Driver
	said bool
}

func (u *unsure) Commit(ctx context.Context, c *repo.Changeset) error {
	if err := u.Driver.Commit(ctx, c); err != nil || u.said {
		return err
	}
	u.said = true
	return repo.ErrOutcomeUnknown
}

// What holds the alias by the second look keeps it, and the answer does not say that the
// change was undone.
func TestWhatCannotBeTakenBackIsSaid(t *testing.T) {
	b := newBed(t)
	s := NewService(b.bus, b.shelf)
	b.set(t, "key_a", "champion", "1", false)
	s.Graphs = &gone{hangUp: func() {
		a, err := cqrs.Ask(as("key_b"), b.bus, FindAlias{Model: "m", Alias: "champion"})
		coded(t, "read", err, "")
		coded(t, "held", second(cqrs.Send(as("key_b"), b.bus, holdAlias{model: "m", alias: "champion", holder: "exp_1", version: a.Root.Version})), "")
	}}
	coded(t, "the change", second(s.SetAlias(as("key_a"), SetAlias{Model: "m", Alias: "champion", Version: "2", Expect: Expectation{Any: true}})), "alias_leads_there")
}
