package flag

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

func flagOf(t testing.TB, percent int) *Flag {
	t.Helper()
	f, err := New("new_thing", "", true, percent)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Who is on at some share is on at every larger one; at 0 nobody is, at 100
// everybody.
func TestShareGrows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		unit := rapid.String().Draw(rt, "unit")
		less := rapid.IntRange(0, 100).Draw(rt, "less")
		more := rapid.IntRange(less, 100).Draw(rt, "more")
		if flagOf(t, less).On(unit) && !flagOf(t, more).On(unit) {
			rt.Fatalf("%q was on at %d and is off at %d", unit, less, more)
		}
		if flagOf(t, 0).On(unit) || !flagOf(t, 100).On(unit) {
			rt.Fatalf("%q", unit)
		}
	})
}

func TestShareIsTrue(t *testing.T) {
	f := flagOf(t, 20)
	on := 0
	for i := range 10_000 {
		if f.On(fmt.Sprint("user-", i)) {
			on++
		}
	}
	if on < 1800 || on > 2200 {
		t.Errorf("on for %d of 10000, want 20 %%", on)
	}
}

func TestFlags(t *testing.T) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	scope := repo.Scope{Tenant: "acme"}
	if err := store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error { return Flags.Add(ctx, tx, flagOf(t, 100)) }); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		tenant    string
		key       Key
		otherwise bool
		want      bool
	}{{"acme", "new_thing", false, true}, {"other", "new_thing", false, false}, {"acme", "nothing", true, true}} {
		if got, err := On(t.Context(), store.Read(repo.Scope{Tenant: tc.tenant}), tc.key, "u", tc.otherwise); got != tc.want || err != nil {
			t.Errorf("%+v: %t, %v", tc, got, err)
		}
	}
	f := flagOf(t, 100)
	if err := f.Set(true, 101); !fault.Is(err, fault.Unprocessable) {
		t.Error(err)
	}
	f.TakeEvents()
	f.Version = 1
	if err := f.Set(true, 100); err != nil || len(f.Events()) != 0 {
		t.Errorf("nothing changed: %v, %v", f.Events(), err)
	}
	if err := f.Set(false, 100); err != nil || f.On("u") || len(f.Events()) != 1 {
		t.Errorf("switched off: %v, %v", f.Events(), err)
	}
}
