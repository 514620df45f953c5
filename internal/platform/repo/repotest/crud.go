package repotest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

var ctx = context.Background()

// sameThings compares things without the events that were recorded.
var sameThings = cmp.Options{cmpopts.IgnoreUnexported(aggregate.Root[thingID]{}), cmpopts.EquateEmpty()}

// Property 1: what was stored comes back as it was, and an update changes only
// what it changes.
func testRoundTrip(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		a := newThing(thingID(rapid.SampledFrom([]string{"a", "thing_1", "Ä'\"", "日本", "a/b c"}).Draw(t, "id")), drawnThings.Draw(t, "made"))
		f.do(t, s, func(ctx context.Context, tx *repo.Tx) error { return things.Add(ctx, tx, a) })
		made := f.clock.Now()
		want := *a
		want.Root = aggregate.Root[thingID]{ID: a.ID, Tenant: s.Tenant, Version: 1, Sequence: 1, CreatedAt: made, CreatedBy: s.Actor, UpdatedAt: made, UpdatedBy: s.Actor}
		f.holds(t, s, want)
		if diff := cmp.Diff(want, *a, sameThings); diff != "" {
			t.Fatalf("Add left the aggregate (-want +got):\n%s", diff)
		}

		f.clock.advance(time.Second)
		next := drawnThings.Draw(t, "changed")
		other := s
		other.Actor = "usr_2"
		f.do(t, other, func(ctx context.Context, tx *repo.Tx) error {
			_, err := things.Update(ctx, tx, a.ID, func(a *thing) error { a.set(next); a.Record(changed{1}); a.Record(changed{2}); return nil })
			return err
		})
		want.set(next)
		want.Version, want.Sequence, want.UpdatedAt, want.UpdatedBy = 2, 3, f.clock.Now(), other.Actor
		f.holds(t, s, want)

		f.clock.advance(time.Second)
		f.do(t, s, func(ctx context.Context, tx *repo.Tx) error {
			_, err := things.Update(ctx, tx, a.ID, func(*thing) error { return nil })
			return err
		})
		f.holds(t, s, want)
		err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error { return things.Add(ctx, tx, newThing(a.ID, next)) })
		if !errors.Is(err, repo.ErrExists) {
			t.Fatalf("a second one with the same id: %v", err)
		}
	})
}

// holds fails the test unless the store has the thing as it is wanted.
func (f *fixture) holds(t rapid.TB, s repo.Scope, want thing) {
	t.Helper()
	got, err := things.Get(ctx, f.store.Read(s), want.ID)
	if err != nil {
		t.Fatalf("Get %s: %v", want.ID, err)
	}
	if diff := cmp.Diff(want, got, sameThings); diff != "" {
		t.Fatalf("Get %s (-want +got):\n%s", want.ID, diff)
	}
	if there, err := things.Exists(ctx, f.store.Read(s), want.ID); err != nil || !there {
		t.Fatalf("Exists %s: %t, %v", want.ID, there, err)
	}
}

// add stores things in as few units of work as may be.
func (f *fixture) add(t rapid.TB, s repo.Scope, all ...*thing) {
	t.Helper()
	for _, r := range things.AddMany(ctx, f.store, s, all) {
		if r.Err() != nil {
			t.Fatalf("AddMany: %v", r.Err())
		}
	}
}

// Property 4: what is deleted is seen only by who asks for it, and comes back as
// it was.
func testSoftDelete(t *testing.T, f *fixture) {
	s := scope()
	for i, id := range ids(6) {
		f.add(t, s, newThing(id, thing{N: int64(i)}))
	}
	for _, id := range ids(3) {
		f.do(t, s, func(ctx context.Context, tx *repo.Tx) error { return things.Delete(ctx, tx, id, changed{-1}) })
	}
	f.agree(t, func() string { return f.seen(s, []int64{3, 4, 5}, []int64{0, 1, 2}) })
	read := f.store.Read(s)
	if _, err := things.Get(ctx, read, "thing_000"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("Get of what is deleted: %v", err)
	}
	if there, err := things.Exists(ctx, read, "thing_000"); there || err != nil {
		t.Errorf("Exists of what is deleted: %t, %v", there, err)
	}
	for what, fn := range map[string]func(ctx context.Context, tx *repo.Tx) error{
		"Update": func(ctx context.Context, tx *repo.Tx) error {
			_, err := things.Update(ctx, tx, "thing_000", func(*thing) error { return nil })
			return err
		},
		"Delete": func(ctx context.Context, tx *repo.Tx) error { return things.Delete(ctx, tx, "thing_000") },
	} {
		if err := f.store.Do(ctx, s, fn); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s of what is deleted: %v", what, err)
		}
	}
	err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
		return things.Add(ctx, tx, newThing("thing_000", thing{}))
	})
	if !errors.Is(err, repo.ErrExists) {
		t.Errorf("Add of what is deleted: %v", err)
	}
	for range 2 { // the second time it is there already
		f.do(t, s, func(ctx context.Context, tx *repo.Tx) error {
			_, err := things.Restore(ctx, tx, "thing_001", changed{1})
			return err
		})
	}
	f.agree(t, func() string { return f.seen(s, []int64{1, 3, 4, 5}, []int64{0, 2}) })
	f.holds(t, s, thing{Root: aggregate.Root[thingID]{ID: "thing_001", Tenant: s.Tenant, Version: 3, Sequence: 3,
		CreatedAt: f.clock.Now(), CreatedBy: s.Actor, UpdatedAt: f.clock.Now(), UpdatedBy: s.Actor}, N: 1})
}

// seen says how what queries see of things differs from the N that are wanted.
func (f *fixture) seen(s repo.Scope, live, deleted []int64) string {
	for which, want := range map[spec.Deleted][]int64{spec.WithoutDeleted: live, spec.OnlyDeleted: deleted, spec.WithDeleted: nil} {
		page, err := things.Find(ctx, f.store.Read(s), spec.Query[thing]{Deleted: which})
		if err != nil {
			return err.Error()
		}
		var got []int64
		for _, a := range page.Items {
			got = append(got, a.N)
		}
		if which == spec.WithDeleted {
			if len(got) != len(live)+len(deleted) {
				return fmt.Sprintf("with the deleted ones there are %v", got)
			}
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			return fmt.Sprintf("deleted %d (-want +got):\n%s", which, diff)
		}
	}
	return ""
}

func testErase(t *testing.T, f *fixture) {
	s := scope()
	f.add(t, s, newThing("a", thing{N: 1}))
	f.do(t, s, func(ctx context.Context, tx *repo.Tx) error {
		if _, err := things.Update(ctx, tx, "a", func(a *thing) error { a.Record(changed{2}); return nil }); err != nil {
			return err
		}
		return things.Erase(ctx, tx, "a")
	})
	read := f.store.Read(s)
	if _, err := f.driver.Get(ctx, repo.Key{Tenant: s.Tenant, Kind: things.Name, ID: "a"}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("Get of what was erased: %v", err)
	}
	if h, err := things.History(ctx, read, "a", 0, 10); err != nil || len(h) != 0 {
		t.Errorf("what was erased has a history still: %v, %v", h, err)
	}
	if err := f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error { return things.Erase(ctx, tx, "a") }); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("erased twice: %v", err)
	}
	f.agree(t, func() string { return f.seen(s, nil, nil) })
	f.add(t, s, newThing("a", thing{N: 2}))
	if h, err := things.History(ctx, read, "a", 0, 10); err != nil || len(h) != 1 || h[0].Sequence != 1 {
		t.Errorf("what was erased and added again has the history %v, %v", h, err)
	}
}

func testExpiry(t *testing.T, f *fixture) {
	s := scope()
	read := f.store.Read(s)
	add := func(id thingID, until time.Time) error {
		return f.store.Do(ctx, s, func(ctx context.Context, tx *repo.Tx) error {
			return leases.Add(ctx, tx, &lease{Root: aggregate.Root[thingID]{ID: id}, Until: until, N: 1})
		})
	}
	must(t, add("long", f.clock.Now().Add(time.Hour)))
	must(t, add("short", f.clock.Now().Add(time.Minute)))
	must(t, add("ever", time.Time{}))
	if err := add("short", f.clock.Now().Add(time.Hour)); !errors.Is(err, repo.ErrExists) {
		t.Errorf("a second one before the end of the first: %v", err)
	}
	found := func(want int) func() string {
		return func() string {
			page, err := leases.Find(ctx, read, spec.Query[lease]{})
			if err != nil || len(page.Items) != want {
				return fmt.Sprintf("found %d leases, expected %d; %v", len(page.Items), want, err)
			}
			return ""
		}
	}
	f.agree(t, found(3))
	f.clock.advance(time.Minute)
	if _, err := leases.Get(ctx, read, "short"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("Get of what has expired: %v", err)
	}
	f.agree(t, found(2))
	must(t, add("short", f.clock.Now().Add(time.Minute)))
	f.agree(t, found(3))
	f.clock.advance(2 * time.Hour)
	f.purge(t, leases.Name)
	f.agree(t, found(1))
	for id, want := range map[string]bool{"long": false, "short": false, "ever": true} {
		_, err := f.driver.Get(ctx, repo.Key{Tenant: s.Tenant, Kind: leases.Name, ID: id})
		if there := err == nil; there != want || err != nil && !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s, after the purge: %v", id, err)
		}
	}
	must(t, add("short", time.Time{}))
}

// purge removes all that has expired, a little at a time.
func (f *fixture) purge(t rapid.TB, kind string) {
	t.Helper()
	for {
		n, err := f.driver.Purge(ctx, kind, f.clock.Now(), 7)
		must(t, err)
		if n > 7 {
			t.Fatalf("Purge removed %d, at most 7 were allowed", n)
		}
		if n == 0 {
			return
		}
	}
}

func testAddMany(t *testing.T, f *fixture) {
	s := scope()
	f.add(t, s, newThing("thing_001", thing{N: 100}))
	var all []*thing
	for i, id := range ids(20) {
		all = append(all, newThing(id, thing{N: int64(i)}))
	}
	all = append(all, newThing("", thing{}), newThing("thing_003", thing{N: 103}))
	for i, r := range things.AddMany(ctx, f.store, s, all) {
		switch {
		case i == 1 || i == 21:
			if !errors.Is(r.Err(), repo.ErrExists) {
				t.Errorf("number %d, there already: %v", i, r.Err())
			}
		case i == 20:
			if fault.CodeOf(r.Err()) != "invalid_id" {
				t.Errorf("without an id: %v", r.Err())
			}
		case r.Err() != nil || r.Or("") != all[i].ID:
			t.Errorf("number %d: %v", i, r)
		}
	}
	for id, n := range map[thingID]int64{"thing_000": 0, "thing_001": 100, "thing_003": 3, "thing_019": 19} {
		if a, err := things.Get(ctx, f.store.Read(s), id); err != nil || a.N != n {
			t.Errorf("%s: %d, %v", id, a.N, err)
		}
	}
}

func testHistory(t *testing.T, f *fixture) {
	s := scope()
	f.add(t, s, newThing("a", thing{N: 1}), newThing("b", thing{N: -1}))
	for i := range 4 {
		f.do(t, s, func(ctx context.Context, tx *repo.Tx) error {
			_, err := things.Update(ctx, tx, "a", func(a *thing) error {
				a.Record(changed{int64(2*i + 2)})
				a.Record(changed{int64(2*i + 3)})
				return nil
			})
			return err
		})
	}
	for _, want := range []struct {
		after       int64
		limit       int
		first, last int64
	}{{0, 100, 1, 9}, {0, 3, 1, 3}, {3, 3, 4, 6}, {8, 3, 9, 9}, {9, 3, 0, -1}} {
		got, err := things.History(ctx, f.store.Read(s), "a", want.after, want.limit)
		must(t, err)
		if int64(len(got)) != want.last-want.first+1 {
			t.Fatalf("after %d, at most %d: %d messages", want.after, want.limit, len(got))
		}
		for i, m := range got {
			n := want.first + int64(i)
			if m.Sequence != n || string(m.Data) != fmt.Sprintf(`{"n":%d}`, n) || m.Type != "thing.changed" || m.Version != 3 || m.Stream != repo.StreamEvents ||
				m.Actor != s.Actor || m.Correlation != s.Correlation || !m.Time.Equal(f.clock.Now()) {
				t.Errorf("message %d: %+v", n, m)
			}
		}
	}
}
