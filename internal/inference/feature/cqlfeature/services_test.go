//go:build services

package cqlfeature

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/featuretest"
	"sluice/internal/platform/cql/cqltest"
)

// lead is longer than any statement takes, also where the machine does other things.
const lead = time.Second

func open(tb testing.TB, address string) feature.Store {
	tb.Helper()
	s, err := Open(tb.Context(), address, Config{Lead: lead})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	featuretest.Run(t, func(tb testing.TB) feature.Store { return open(tb, cqltest.Fresh(tb)) },
		func(tb testing.TB, s feature.Store) feature.Store {
			return open(tb, cqltest.URL(tb, s.(*Store).session.Keyspace))
		})
}

// many writes rows of n entities, and returns their keys.
func many(tb testing.TB, s feature.Store, n int) []feature.Key {
	tb.Helper()
	event := time.Now().Add(-time.Hour)
	rows, keys := make([]feature.Row, n), make([]feature.Key, n)
	for i := range rows {
		entity := "e" + time.Duration(i).String()
		rows[i] = feature.Row{Entity: entity, EventTime: event, Values: []byte(`{"n":1}`)}
		keys[i] = feature.Key{View: "v", Entity: entity}
	}
	if err := s.Write(tb.Context(), "ten", "v", rows, time.Time{}, 24*time.Hour); err != nil {
		tb.Fatal(err)
	}
	return keys
}

func TestManyEntities(t *testing.T) {
	s := open(t, cqltest.Fresh(t))
	keys := many(t, s, 1000)
	got, err := s.Read(t.Context(), "ten", keys, time.Now())
	if err != nil || len(got) != len(keys) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, r := range got {
		if r.Entity != keys[i].Entity {
			t.Fatalf("row %d is of %q, want %q", i, r.Entity, keys[i].Entity)
		}
	}
}

// Rows that the filter leaves out fill the first page, which may be empty then.
func TestReadBehindManyThatAreLater(t *testing.T) {
	s := open(t, cqltest.Fresh(t))
	now := time.Now().UTC().Truncate(time.Second)
	for i := range 21 { // corrections of one event
		values := `{"n":1}`
		if i > 0 {
			values = `"` + strings.Repeat("x", feature.MaxValues-2) + `"`
		}
		rows := []feature.Row{{Entity: "e", EventTime: now.Add(-time.Hour), Values: []byte(values)}}
		if err := s.Write(t.Context(), "ten", "v", rows, now.Add(time.Duration(i)*time.Minute), 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Read(t.Context(), "ten", []feature.Key{{View: "v", Entity: "e"}}, now)
	if err != nil || string(got[0].Values) != `{"n":1}` {
		t.Errorf("%.100s, %v", got[0].Values, err)
	}
}

// However many write rows of one entity that are kept for less long than older ones, none is
// kept for longer than a newer one.
func TestShortenTogether(t *testing.T) {
	s := open(t, cqltest.Fresh(t)).(*Store)
	now := time.Now().UTC().Truncate(time.Second)
	put := func(entity string, event time.Time, keep time.Duration) error {
		return s.Write(t.Context(), "ten", "v", []feature.Row{{Entity: entity, EventTime: event, Values: []byte(`{}`)}}, now, keep)
	}
	for round := range 20 {
		entity := "e" + strconv.Itoa(round)
		for i := range 3 {
			if err := put(entity, now.Add(time.Duration(i)*time.Second), 300*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		var g errgroup.Group
		for i := range 6 {
			g.Go(func() error {
				return put(entity, now.Add(time.Duration(i+1)*time.Minute), time.Duration(rand.IntN(200)+1)*time.Hour)
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		iter := s.session.Repeat(t.Context(), `SELECT event, until FROM feature_rows WHERE tenant = 'ten' AND feature_view = 'v' AND entity = ?`, entity).Iter()
		var event, until int64
		for last := int64(math.MaxInt64); iter.Scan(&event, &until); last = until {
			if until > last {
				t.Errorf("%s: a row is kept for %s longer than a newer one", entity, time.Duration(until-last)*time.Microsecond)
			}
		}
		if err := iter.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, cqltest.Fresh(b))
	keys := many(b, s, 128)
	for b.Loop() {
		if _, err := s.Read(b.Context(), "ten", keys, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
