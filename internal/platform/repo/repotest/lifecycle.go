package repotest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

func testCancelled(t *testing.T, f *fixture) {
	s := scope()
	f.add(t, s, newThing("a", thing{}))
	f.drain(t)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for what, err := range uses(gone, f, s) {
		if !errors.Is(err, context.Canceled) && !fault.Is(err, fault.Canceled) {
			t.Errorf("%s: %v, expected that it was cancelled", what, err)
		}
	}
	if a, err := things.Get(ctx, f.store.Read(s), "a"); err != nil || a.Version != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if got := f.drain(t); len(got) != 0 {
		t.Errorf("messages: %+v", got)
	}
}

// uses returns what comes of using the driver in each way.
func uses(ctx context.Context, f *fixture, s repo.Scope) map[string]error {
	d := f.driver
	key := repo.Key{Tenant: s.Tenant, Kind: things.Name, ID: "a"}
	out := map[string]error{"Ping": d.Ping(ctx)}
	_, out["Get"] = d.Get(ctx, key)
	_, out["Find"] = d.Find(ctx, things.Schema(), &repo.FindQuery{Tenant: s.Tenant, Limit: 1})
	_, out["History"] = d.History(ctx, key, 0, 1)
	_, out["Pending"] = d.Pending(ctx, 0, 1)
	_, _, out["Backlog"] = d.Backlog(ctx, 0)
	_, out["Purge"] = d.Purge(ctx, things.Name, f.clock.Now(), 1)
	out["Commit"] = d.Commit(ctx, &repo.Changeset{ID: "x", Puts: []repo.Put{put(s.Tenant, "a", 1)}})
	if f.features.Summaries {
		_, out["Summarise"] = d.Summarise(ctx, things.Schema(), &repo.SummaryQuery{Tenant: s.Tenant, Measures: []spec.Measure{{Function: spec.Count}}})
	}
	return out
}

func testClose(t *testing.T, s Suite) {
	f := s.fixture(t)
	must(t, f.driver.Ping(ctx))
	must(t, f.driver.Close())
	for what, err := range uses(ctx, f, scope()) {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s on a closed store: %v, expected Unavailable", what, err)
		}
	}
	if err := f.driver.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func testReopen(t *testing.T, s Suite) {
	if s.Reopen == nil {
		t.Fatal("the driver is durable: the suite needs Reopen")
	}
	f := s.fixture(t)
	who := scope()
	f.add(t, who, newThing("a", thing{Name: "x", N: 1, At: epoch}))
	f.do(t, who, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, "a") })
	f.do(t, who, func(ctx context.Context, tx *repo.Tx) error { return nil })
	must(t, f.store.Once(ctx, who, "mailer", "evt_1", patience, func(ctx context.Context, tx *repo.Tx) error { return bump(ctx, tx, "a") }))
	before, err := things.Get(ctx, f.store.Read(who), "a")
	must(t, err)
	must(t, f.driver.Close())

	g := fixtureOf(t, s.Reopen(t, f.driver))
	before.Root.TakeEvents()
	g.holds(t, who, before)
	if err := g.store.Once(ctx, who, "mailer", "evt_1", patience, func(context.Context, *repo.Tx) error { return nil }); !errors.Is(err, repo.ErrProcessed) {
		t.Errorf("the inbox was forgotten: %v", err)
	}
	if h, err := things.History(ctx, g.store.Read(who), "a", 0, 10); err != nil || len(h) != 3 {
		t.Errorf("the history is %+v, %v", h, err)
	}
	inOrder(t, g.drain(t), "a", who.Tenant, 3)
	g.agree(t, func() string { return g.seen(who, []int64{3}, nil) })
}

// grown is the kind of things in a later version of a program: with a column
// for what was in no column.
func grown() *repo.Schema {
	s := things.Schema()
	s.Columns = append(slices.Clone(s.Columns), repo.Column{Name: "note", Type: spec.TypeText})
	refill := s.Refill
	s.Refill = func(r *repo.Record) error {
		if err := refill(r); err != nil {
			return err
		}
		var a thing
		err := json.Unmarshal(r.Doc, &a)
		r.Fields = append(r.Fields, spec.TextValue(a.Note))
		return err
	}
	return s
}

func testMigrate(t *testing.T, s Suite) {
	f := s.fixture(t)
	d := f.driver
	must(t, d.Migrate(ctx, schemas()))
	who := scope()
	const n = 30
	for i, id := range ids(n) {
		f.add(t, who, newThing(id, thing{N: int64(i), Note: fmt.Sprintf("note %d", i%3)}))
	}
	drivers := []repo.Driver{d}
	if s.Second != nil {
		for range 2 {
			second := s.Second(t, d)
			t.Cleanup(func() { second.Close() })
			drivers = append(drivers, second)
		}
	}
	later := []*repo.Schema{grown(), leases.Schema(), orders.Schema()}
	for _, err := range together(len(drivers), func(i int) error { return drivers[i].Migrate(ctx, later) }) {
		must(t, err)
	}
	q := &repo.FindQuery{Tenant: who.Tenant, Limit: n, Now: f.clock.Now(), Where: &spec.Compare{Field: "note", Op: spec.Eq, Values: []spec.Value{spec.TextValue("note 1")}}}
	for i, d := range drivers {
		f.agree(t, func() string {
			found, err := d.Find(ctx, grown(), q)
			if f.refused(err) {
				return ""
			}
			if len(found) != n/3 || err != nil {
				return fmt.Sprintf("driver %d: by the new column %d were found, expected %d; %v", i, len(found), n/3, err)
			}
			if got := found[0].Fields[len(found[0].Fields)-1]; got != spec.TextValue("note 1") {
				return fmt.Sprintf("the new column holds %v", got)
			}
			return ""
		})
	}
	for i, id := range ids(n) {
		f.holdsVersion(t, who, id, int64(i))
	}
}

// holdsVersion fails the test unless the thing is as it was made.
func (f *fixture) holdsVersion(t *testing.T, s repo.Scope, id thingID, n int64) {
	t.Helper()
	if a, err := things.Get(ctx, f.store.Read(s), id); err != nil || a.N != n || a.Version != 1 {
		t.Errorf("%s: %+v, %v", id, a, err)
	}
}
