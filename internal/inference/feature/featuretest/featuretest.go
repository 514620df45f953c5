// Package featuretest is the contract of feature.Store: what every store of features
// does.
package featuretest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/fault"
)

// Run checks stores that open opens anew and second opens again; nil where that is not
// possible.
func Run(t *testing.T, open func(testing.TB) feature.Store, second func(testing.TB, feature.Store) feature.Store) {
	t.Run("point in time", func(t *testing.T) { pointInTime(t, open(t)) })
	t.Run("tenants", func(t *testing.T) { tenants(t, open(t)) })
	t.Run("forget", func(t *testing.T) { forget(t, open(t)) })
	t.Run("expiry", func(t *testing.T) { expiry(t, open(t)) })
	t.Run("keep", func(t *testing.T) { shorter(t, open(t)) })
	t.Run("stamps", func(t *testing.T) { s := open(t); stamps(t, s, s) })
	t.Run("invalid", func(t *testing.T) { invalid(t, open(t)) })
	if second != nil {
		t.Run("several", func(t *testing.T) {
			s := open(t)
			several(t, s, second(t, s))
		})
		t.Run("stamps of several", func(t *testing.T) {
			s := open(t)
			stamps(t, s, second(t, s))
		})
	}
}

// begin is when the tests' rows are: not long ago, so that none expires.
func begin() time.Time { return time.Now().UTC().Truncate(time.Hour).Add(-10 * time.Hour) }

func someone() string { return "ten_" + uuid.NewString() }

const keep = 24 * time.Hour

func at(from time.Time, minute int) time.Time { return from.Add(time.Duration(minute) * time.Minute) }

func row(entity string, event time.Time, value int) feature.Row {
	return feature.Row{Entity: entity, EventTime: event, Values: json.RawMessage(`{"n":` + strconv.Itoa(value) + `}`)}
}

// known is what the definition says that was known as of a time.
func known(written []feature.Row, entity string, asOf time.Time) (best feature.Row) {
	for _, r := range written {
		if r.Entity != entity || r.EventTime.After(asOf) || r.Written.After(asOf) {
			continue
		}
		if best.Written.IsZero() || r.EventTime.After(best.EventTime) || r.EventTime.Equal(best.EventTime) && !r.Written.Before(best.Written) {
			best = r
		}
	}
	return best
}

// pointInTime writes rows in any order of event times, late, early, corrected and again,
// and reads as of any time.
func pointInTime(t *testing.T, s feature.Store) {
	rapid.Check(t, func(t *rapid.T) {
		tenant, from, clock := someone(), begin(), 0
		var all []feature.Row
		entity := rapid.SampledFrom([]string{"a", "b", "ü/?#", strings.Repeat("x", feature.MaxEntity)})
		minute := rapid.IntRange(0, 60)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				clock += rapid.IntRange(0, 3).Draw(t, "later")
				var rows []feature.Row
				for i := range rapid.IntRange(0, 5).Draw(t, "rows") {
					r := row(entity.Draw(t, "entity"), at(from, minute.Draw(t, "event")), 100*len(all)+i)
					r.Written = at(from, clock)
					for j := len(rows) - 1; j >= 0; j-- { // one call has a row of an entity and time once
						if rows[j].Entity == r.Entity && rows[j].EventTime.Equal(r.EventTime) {
							rows = append(rows[:j], rows[j+1:]...)
						}
					}
					rows = append(rows, r)
				}
				for range rapid.IntRange(1, 2).Draw(t, "times") { // who was not answered writes again
					if err := s.Write(t.Context(), tenant, "v", rows, at(from, clock), keep); err != nil {
						t.Fatal(err)
					}
				}
				all = append(all, rows...)
			},
			"read": func(t *rapid.T) {
				asOf := at(from, minute.Draw(t, "as of")).Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "beside")) * time.Microsecond)
				var keys []feature.Key
				for range rapid.IntRange(0, 6).Draw(t, "keys") {
					keys = append(keys, feature.Key{View: rapid.SampledFrom([]string{"v", "v", "other"}).Draw(t, "view"), Entity: entity.Draw(t, "entity")})
				}
				got, err := s.Read(t.Context(), tenant, keys, asOf)
				if err != nil || len(got) != len(keys) {
					t.Fatalf("%d keys gave %d rows, %v", len(keys), len(got), err)
				}
				for i, k := range keys {
					want := feature.Row{}
					if k.View == "v" {
						want = known(all, k.Entity, asOf)
					}
					if got[i].Entity != want.Entity || !got[i].EventTime.Equal(want.EventTime) || !got[i].Written.Equal(want.Written) || string(got[i].Values) != string(want.Values) {
						t.Fatalf("%v as of %s is %+v, want %+v", k, asOf, got[i], want)
					}
				}
			},
		})
	})
}

func read(t *testing.T, s feature.Store, tenant, entity string, asOf time.Time) feature.Row {
	t.Helper()
	found, err := s.Read(t.Context(), tenant, []feature.Key{{View: "v", Entity: entity}}, asOf)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func write(t *testing.T, s feature.Store, tenant string, written time.Time, rows ...feature.Row) {
	t.Helper()
	if err := s.Write(t.Context(), tenant, "v", rows, written, keep); err != nil {
		t.Fatal(err)
	}
}

func tenants(t *testing.T, s feature.Store) {
	a, b, now := someone(), someone(), begin()
	write(t, s, a, now, row("e", now, 1))
	if got := read(t, s, b, "e", at(now, 1)); !got.Written.IsZero() {
		t.Errorf("another tenant's row: %+v", got)
	}
	if err := s.Forget(t.Context(), b, feature.Key{View: "v", Entity: "e"}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, a, "e", at(now, 1)); got.Written.IsZero() {
		t.Error("another tenant has forgotten it")
	}
}

func forget(t *testing.T, s feature.Store) {
	tenant, now := someone(), begin()
	write(t, s, tenant, now, row("e", now, 1), row("e", at(now, 1), 2), row("f", now, 3))
	for range 2 { // also where there is nothing
		if err := s.Forget(t.Context(), tenant, feature.Key{View: "v", Entity: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, minute := range []int{0, 2} {
		if got := read(t, s, tenant, "e", at(now, minute)); !got.Written.IsZero() {
			t.Errorf("it is still there: %+v", got)
		}
	}
	if got := read(t, s, tenant, "f", at(now, 1)); got.Written.IsZero() {
		t.Error("another entity is gone, too")
	}
}

// expiry removes what is over; what is not stays.
func expiry(t *testing.T, s feature.Store) {
	tenant, now := someone(), time.Now().UTC().Truncate(time.Second)
	write(t, s, tenant, now, row("old", now.Add(-keep-time.Second), 1), row("new", now, 2))
	if err := s.Expire(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, tenant, "old", time.Now()); !got.Written.IsZero() {
		t.Errorf("what is over is there: %+v", got)
	}
	if got := read(t, s, tenant, "new", time.Now()); got.Written.IsZero() {
		t.Error("what is not over is gone")
	}
}

// shorter keeps newer rows for a shorter time: the older ones do not come back behind them.
func shorter(t *testing.T, s feature.Store) {
	tenant, now := someone(), time.Now().UTC().Truncate(time.Second)
	write(t, s, tenant, now, row("e", now.Add(-2*time.Hour), 1), row("other", now.Add(-2*time.Hour), 1))
	if err := s.Write(t.Context(), tenant, "v", []feature.Row{row("e", now.Add(-time.Hour), 2)}, now, time.Minute); err != nil {
		t.Fatal(err)
	}
	write(t, s, tenant, now, row("e", now.Add(-90*time.Minute), 3)) // late
	if err := s.Expire(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, minutes := range []int{0, -75, -100} {
		if got := read(t, s, tenant, "e", at(now, minutes)); !got.Written.IsZero() {
			t.Errorf("a row that is older than one that is over, %d minutes ago: %+v", -minutes, got)
		}
	}
	if got := read(t, s, tenant, "other", now); got.Written.IsZero() {
		t.Error("another entity's row is gone")
	}
}

// stamps reads while some write, maybe in another process: what was read as of a time is read
// as of it ever after, by anybody. A call has rows enough for writers to queue.
func stamps(t *testing.T, to, from feature.Store) {
	tenant, done := someone(), make(chan error)
	event := begin()
	var writers errgroup.Group
	for w := range 8 {
		writers.Go(func() error {
			for i, end := 0, time.Now().Add(10*time.Second); i < 25 && time.Now().Before(end); i++ {
				rows := []feature.Row{row("e", event, 100*w+i)}
				for beside := range 31 {
					rows = append(rows, row("beside "+strconv.Itoa(beside), event, i))
				}
				if err := to.Write(t.Context(), tenant, "v", rows, time.Time{}, keep); err != nil {
					return err
				}
			}
			return nil
		})
	}
	go func() { done <- writers.Wait() }()
	type seen struct {
		asOf   time.Time
		values string
	}
	var all []seen
	for writing := true; writing; {
		select {
		case err := <-done:
			if writing = false; err != nil {
				t.Fatal(err)
			}
		default:
			asOf := time.Now()
			all = append(all, seen{asOf, string(read(t, from, tenant, "e", asOf).Values)})
		}
	}
	for _, one := range all {
		for _, s := range []feature.Store{to, from} {
			if got := string(read(t, s, tenant, "e", one.asOf).Values); got != one.values {
				t.Fatalf("as of %s it was %q, and is %q", one.asOf, one.values, got)
			}
		}
	}
	if got := read(t, from, tenant, "e", time.Now()); got.Written.IsZero() {
		t.Error("what is written is not read at once")
	}
}

func invalid(t *testing.T, s feature.Store) {
	tenant, now := someone(), begin()
	for name, bad := range map[string]feature.Row{
		"no entity":     row("", now, 1),
		"a long entity": row(strings.Repeat("x", feature.MaxEntity+1), now, 1),
		"no time":       row("e", time.Time{}, 1),
		"long values":   {Entity: "e", EventTime: now, Values: make([]byte, feature.MaxValues+1)},
	} {
		if err := s.Write(t.Context(), tenant, "v", []feature.Row{row("good", now, 1), bad}, now, keep); !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := read(t, s, tenant, "good", at(now, 1)); !got.Written.IsZero() {
		t.Error("a refused write has left a row")
	}
}

// several processes see each other's rows.
func several(t *testing.T, a, b feature.Store) {
	tenant, now := someone(), begin()
	write(t, a, tenant, now, row("e", now, 1))
	write(t, b, tenant, at(now, 1), row("e", now, 2))
	for _, s := range []feature.Store{a, b} {
		if got := read(t, s, tenant, "e", at(now, 2)); string(got.Values) != `{"n":2}` {
			t.Errorf("%+v", got)
		}
	}
}
