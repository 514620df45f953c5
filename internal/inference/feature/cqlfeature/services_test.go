//go:build services

package cqlfeature

import (
	"testing"
	"time"

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

func BenchmarkRead(b *testing.B) {
	s := open(b, cqltest.Fresh(b))
	keys := many(b, s, 128)
	for b.Loop() {
		if _, err := s.Read(b.Context(), "ten", keys, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
