package repotest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

// refused says whether the driver may, and does, refuse to answer.
func (f *fixture) refused(err error) bool {
	return !f.features.AnyQuery && errors.Is(err, spec.ErrUnsupported)
}

// idsOf goes through all pages of a query.
func (f *fixture) idsOf(s repo.Scope, q spec.Query[thing]) ([]thingID, error) {
	var out []thingID
	for a, err := range things.All(ctx, f.store.Read(s), q) {
		if err != nil {
			return nil, err
		}
		out = append(out, a.ID)
	}
	return out, nil
}

// some adds drawn things and returns a store in memory that has the same.
func (f *fixture) some(t *rapid.T, s repo.Scope, most int) *fixture {
	t.Helper()
	model := f.model(t)
	values := rapid.SliceOfN(drawnThings, 1, most).Draw(t, "things")
	for _, g := range []*fixture{f, model} {
		var all []*thing
		for i, id := range ids(len(values)) {
			all = append(all, newThing(id, values[i]))
		}
		g.add(t, s, all...)
		for i, id := range ids(len(values)) {
			if i%5 == 4 {
				g.do(t, s, func(ctx context.Context, tx *repo.Tx) error { return things.Delete(ctx, tx, id) })
			}
		}
	}
	return model
}

// model returns an empty store in memory with the same time.
func (f *fixture) model(t rapid.TB) *fixture {
	t.Helper()
	d := memrepo.New(memrepo.Config{OneAggregate: !f.features.MultiAggregate})
	must(t, d.Migrate(ctx, schemas()))
	features := d.Features()
	features.AnyQuery = f.features.AnyQuery // it is asked what the driver is asked
	return &fixture{d, repo.New(d, repo.Config{Now: f.clock.Now}), f.clock, features}
}

// finds fails the test unless the driver refuses the query or finds what the
// model does.
func (f *fixture) finds(t rapid.TB, s repo.Scope, model *fixture, q spec.Query[thing]) {
	t.Helper()
	want, err := model.idsOf(s, q)
	must(t, err)
	f.agree(t, func() string {
		got, err := f.idsOf(s, q)
		if f.refused(err) {
			return ""
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			return fmt.Sprintf("%s, order %+v, deleted %d: %v (-want +got):\n%s", spec.Text(q.Where.Expr()), q.Order, q.Deleted, err, diff)
		}
		return ""
	})
}

// What a query finds is what its rule matches, in the order that was asked for.
func testRules(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		model := f.some(t, s, 12)
		f.finds(t, s, model, spec.Query[thing]{Deleted: spec.WithDeleted}) // the least that a driver answers
		for range 8 {
			f.finds(t, s, model, spec.Query[thing]{Where: drawRule(t, 3), Order: drawnOrders.Draw(t, "order"), Deleted: drawnDeleted.Draw(t, "deleted"), Limit: rapid.IntRange(1, 20).Draw(t, "limit")})
		}
	})
	s := scope()
	many := make([]int64, 2000)
	for i := range many {
		many[i] = int64(2 * i)
	}
	f.add(t, s, newThing("a", thing{N: 1998}), newThing("b", thing{N: 1999}))
	f.agree(t, func() string {
		got, err := f.idsOf(s, spec.Query[thing]{Where: num.In(many...)})
		if f.refused(err) || err == nil && slices.Equal(got, []thingID{"a"}) {
			return ""
		}
		return fmt.Sprintf("in 2000 values: %v, %v", got, err)
	})
}

func testOrders(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		model := f.some(t, s, 30)
		for _, field := range []string{"", name.Name(), num.Name(), frac.Name(), on.Name(), at.Name()} {
			for _, descending := range []bool{false, true} {
				f.finds(t, s, model, spec.Query[thing]{Order: spec.Order[thing]{Field: field, Descending: descending}, Limit: 7})
			}
		}
	})
}

func testSummaries(t *testing.T, f *fixture) {
	if !f.features.Summaries {
		if _, err := things.Count(ctx, f.store.Read(scope()), spec.Spec[thing]{}); !errors.Is(err, spec.ErrUnsupported) {
			t.Errorf("Count without the feature: %v", err)
		}
		return
	}
	var measures []spec.Measure
	for _, field := range []string{num.Name(), frac.Name(), name.Name(), at.Name(), on.Name()} {
		measures = append(measures, spec.Measure{Function: spec.Min, Field: field}, spec.Measure{Function: spec.Max, Field: field})
	}
	measures = append(measures, spec.Measure{Function: spec.Count}, spec.Measure{Function: spec.Sum, Field: frac.Name()}, spec.Measure{Function: spec.Avg, Field: frac.Name()})
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		model := f.some(t, s, 20)
		q := spec.Summary[thing]{
			Where: drawRule(t, 2), By: rapid.SampledFrom([]string{"", name.Name(), num.Name(), frac.Name(), on.Name(), at.Name()}).Draw(t, "by"),
			Measures: measures, Deleted: drawnDeleted.Draw(t, "deleted"),
		}
		want, err := things.Summarise(ctx, model.store.Read(s), q)
		must(t, err)
		f.agree(t, func() string {
			got, err := things.Summarise(ctx, f.store.Read(s), q)
			if f.refused(err) {
				return ""
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateApprox(1e-9, 0)); diff != "" || err != nil {
				return fmt.Sprintf("%s by %q: %v (-want +got):\n%s", spec.Text(q.Where.Expr()), q.By, err, diff)
			}
			return ""
		})
	})
	s := scope()
	f.add(t, s, newThing("a", thing{N: 3}), newThing("b", thing{N: -8}), newThing("c", thing{N: 6}))
	f.agree(t, func() string {
		got, err := things.Summarise(ctx, f.store.Read(s), spec.Summary[thing]{Measures: []spec.Measure{{Function: spec.Sum, Field: "n"}, {Function: spec.Avg, Field: "n"}}})
		want := []spec.Group{{Values: []spec.Value{spec.IntValue(1), spec.FloatValue(1.0 / 3)}}}
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" || err != nil {
			return fmt.Sprintf("sums of integers: %v (-want +got):\n%s", err, diff)
		}
		return ""
	})
}

// Property 5: the pages of a query together are all of it, each once and in
// order, at any size, whatever is added and deleted between them.
func testPages(t *testing.T, f *fixture) {
	rapid.Check(t, func(t *rapid.T) {
		s := scope()
		model := f.some(t, s, 25)
		order := drawnOrders.Draw(t, "order")
		q := spec.Query[thing]{Order: order, Limit: rapid.IntRange(1, 9).Draw(t, "size")}
		want, err := model.idsOf(s, q)
		must(t, err)
		f.finds(t, s, model, q)
		if f.features.Summaries {
			f.agree(t, func() string {
				if n, err := things.Count(ctx, f.store.Read(s), spec.Spec[thing]{}); err != nil || int(n) != len(want) {
					return fmt.Sprintf("Count: %d, %v, expected %d", n, err, len(want))
				}
				return ""
			})
		}

		var got, passing []thingID
		seen := map[thingID]bool{}
		for {
			page, err := things.Find(ctx, f.store.Read(s), q)
			if f.refused(err) {
				return
			}
			must(t, err)
			if len(page.Items) > q.Limit {
				t.Fatalf("a page of %d has %d", q.Limit, len(page.Items))
			}
			for _, a := range page.Items {
				if seen[a.ID] {
					t.Fatalf("%s came twice, order %+v", a.ID, order)
				}
				seen[a.ID] = true
				if slices.Contains(want, a.ID) {
					got = append(got, a.ID)
				}
			}
			if q.After = page.Next; q.After == "" {
				break
			}
			if len(passing) > 0 && rapid.Bool().Draw(t, "delete") {
				f.do(t, s, func(ctx context.Context, tx *repo.Tx) error { return things.Delete(ctx, tx, passing[0]) })
				passing = passing[1:]
			}
			if len(passing) < 5 {
				id := thingID(rapid.SampledFrom([]string{"a_", "thing_005_", "z_"}).Draw(t, "place") + uuid.NewString())
				f.add(t, s, newThing(id, drawnThings.Draw(t, "passing")))
				passing = append(passing, id)
			}
			if len(seen) > 500 {
				t.Fatal("the pages do not end")
			}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("order %+v, pages of %d (-want +got):\n%s", order, q.Limit, diff)
		}
	})
}

func testCursors(t *testing.T, f *fixture) {
	s, other := scope(), scope()
	for _, id := range ids(3) {
		f.add(t, s, newThing(id, thing{}))
		f.add(t, other, newThing(id, thing{}))
	}
	var next string
	f.agree(t, func() string {
		page, err := things.Find(ctx, f.store.Read(s), spec.Query[thing]{Limit: 1})
		if next = page.Next; err != nil || next == "" {
			return fmt.Sprintf("no next page: %v", err)
		}
		return ""
	})
	for what, q := range map[string]spec.Query[thing]{
		"garbage":          {After: "garbage!"},
		"no JSON":          {After: base64.RawURLEncoding.EncodeToString([]byte("{"))},
		"of nothing":       {After: base64.RawURLEncoding.EncodeToString([]byte("{}"))},
		"another order":    {After: next, Order: spec.Order[thing]{Descending: true}},
		"another rule":     {After: next, Where: num.Eq(1)},
		"with the deleted": {After: next, Deleted: spec.WithDeleted},
	} {
		if _, err := things.Find(ctx, f.store.Read(s), q); !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != "invalid_cursor" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := things.Find(ctx, f.store.Read(other), spec.Query[thing]{After: next}); fault.CodeOf(err) != "invalid_cursor" {
		t.Errorf("another tenant's: %v", err)
	}
	for what, q := range map[string]spec.Query[thing]{"order": {Order: spec.Order[thing]{Field: "note"}}, "rule": {Where: spec.TextField("x; DROP", func(t *thing) string { return t.Note }).Eq("")}} {
		if _, err := things.Find(ctx, f.store.Read(s), q); fault.CodeOf(err) != "unknown_field" {
			t.Errorf("%s by what is no column: %v", what, err)
		}
	}
}

// Tenants never see each other, whatever they share.
func testTenants(t *testing.T, f *fixture) {
	a, b, platform := scope(), scope(), scope()
	platform.Tenant = ""
	id := thingID("thing_" + uuid.NewString())
	all := map[int64]repo.Scope{1: a, 2: b, 3: platform}
	for n, s := range all {
		f.add(t, s, newThing(id, thing{N: n}))
	}
	for n, s := range all {
		if got, err := things.Get(ctx, f.store.Read(s), id); err != nil || got.N != n || got.Tenant != s.Tenant {
			t.Errorf("tenant %d: %+v, %v", n, got, err)
		}
		if h, err := things.History(ctx, f.store.Read(s), id, 0, 10); err != nil || len(h) != 1 || h[0].Tenant != s.Tenant {
			t.Errorf("tenant %d has the history %+v, %v", n, h, err)
		}
	}
	f.do(t, a, func(ctx context.Context, tx *repo.Tx) error { return things.Erase(ctx, tx, id) })
	f.agree(t, func() string { return f.seen(a, nil, nil) })
	f.agree(t, func() string { return f.seen(b, []int64{2}, nil) })
	if got, err := things.Get(ctx, f.store.Read(platform), id); err != nil || got.N != 3 {
		t.Errorf("the platform's: %+v, %v", got, err)
	}
	if h, err := things.History(ctx, f.store.Read(b), id, 0, 10); err != nil || len(h) != 1 {
		t.Errorf("erasing one tenant's changed the history of another's: %+v, %v", h, err)
	}
	if f.features.Summaries {
		if n, err := things.Count(ctx, f.store.Read(b), spec.Spec[thing]{}); err != nil || n != 1 {
			t.Errorf("Count: %d, %v", n, err)
		}
	}
}
