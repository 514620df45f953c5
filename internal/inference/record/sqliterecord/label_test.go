package sqliterecord

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordtest"
	"sluice/internal/platform/sqlite"
)

// A name that very many predictions have is found to be ambiguous by two of them:
// nothing is sorted.
func TestNamesAreFoundWithoutSorting(t *testing.T) {
	s := open(t).(*stored)
	var plan strings.Builder
	err := s.readers.Query(t.Context(), sqlite.New("EXPLAIN QUERY PLAN "+byRef, "acme", "ref"), func(row []sqlite.Value) error {
		fmt.Fprintln(&plan, row[3])
		return nil
	})
	if err != nil || !strings.Contains(plan.String(), "entries_refs") || strings.Contains(plan.String(), "ORDER BY") {
		t.Errorf("%v, %s", err, &plan)
	}
}

// Labels are looked up while somebody appends.
func TestLookUpNeedsNoLock(t *testing.T) {
	s := open(t).(*stored)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, why, err := s.attempts(t.Context(), "acme", &record.Label{ClientRef: "ref"}); err != nil || why != record.Unknown {
		t.Errorf("%s, %v", why, err)
	}
}

// A new label is added to what its minute comes to: the minute's other labels are not
// read again, until one of them is replaced.
func TestNewLabelsAreAddedUp(t *testing.T) {
	s := open(t).(*stored)
	list := recordtest.Traffic("acme", time.UnixMilli(60_000), 2, 2)
	list[1].Choice = list[0].Choice
	if err := s.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	put := func(i int, score float64) {
		t.Helper()
		if _, err := s.Label(t.Context(), "acme", []record.Label{{ID: list[i].ID, Name: "right", Score: &score}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	counted := func(want int64) {
		t.Helper()
		got, err := s.Statistics(t.Context(), record.Filter{Tenant: "acme"}, record.Grouping{})
		if err != nil || len(got) != 1 || got[0].Scores["right"].N != want {
			t.Errorf("%+v, %v, want %d labels", got, err, want)
		}
	}
	put(0, 1)
	err := s.write(t.Context(), func() error { return s.conn.Exec(sqlite.New("DELETE FROM labels")) }) // behind its back
	if err != nil {
		t.Fatal(err)
	}
	put(1, 2)
	counted(2)
	put(1, 3)
	counted(1)
}

// A file of an earlier form goes on: of its minutes nobody knows between what their scores
// lie, so their labels are read, and new ones have a generation's steps.
func TestEarlierForm(t *testing.T) {
	s := open(t).(*stored)
	list := recordtest.Traffic("acme", time.UnixMilli(60_000), 3, 3)
	for _, e := range list {
		e.Choice = record.Choice{Experiment: "exp", Arm: "a"}
	}
	put := func(s record.Store, e *record.Entry, score float64) {
		t.Helper()
		if err := s.Append(t.Context(), []*record.Entry{e}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Label(t.Context(), "acme", []record.Label{{ID: e.ID, Name: "right", Score: &score}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(s, list[0], 0.5)
	put(s, list[1], 9)
	err := s.write(t.Context(), func() error {
		return s.conn.Script("ALTER TABLE entries DROP COLUMN steps; ALTER TABLE scores DROP COLUMN lo; ALTER TABLE scores DROP COLUMN hi; PRAGMA user_version = 3")
	})
	if err != nil {
		t.Fatal(err)
	}
	again := openPath(t, s.path)
	list[2].Steps = 7
	put(again, list[2], 0.25)
	got, err := again.Scores(t.Context(), record.Window{Experiment: "exp", From: time.UnixMilli(0), Within: &[2]float64{0, 1}})
	if m := got["a"]["right"]; err != nil || m.N != 2 || m.Mean != 0.375 {
		t.Errorf("%+v, %v", got, err)
	}
	found, err := again.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: "acme"}, Limit: 9})
	if err != nil || len(found) != 3 || found[0].Steps+found[1].Steps+found[2].Steps != 7 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Of minutes all of whose scores count, or none, no label is read.
func TestScoresWithinAreFolded(t *testing.T) {
	s := open(t).(*stored)
	list := recordtest.Traffic("acme", time.UnixMilli(60_000), 3, 3)
	scores := []float64{0.5, -3, 9}
	for i, e := range list {
		e.Choice, e.At = record.Choice{Experiment: "exp", Arm: []string{"a", "b", "b"}[i]}, time.UnixMilli(60_000*int64(i+2))
		e.ID = record.NewID(e.At)
	}
	if err := s.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for i, e := range list {
		if got, err := s.Label(t.Context(), "acme", []record.Label{{ID: e.ID, Name: "right", Score: &scores[i]}}, time.Now()); err != nil || got[0] != record.Added {
			t.Fatal(got, err)
		}
	}
	if err := s.write(t.Context(), func() error { return s.conn.Exec(sqlite.New("DELETE FROM labels")) }); err != nil { // behind its back
		t.Fatal(err)
	}
	for _, w := range []struct {
		within [2]float64
		a, b   int64
	}{{[2]float64{0, 1}, 1, 0}, {[2]float64{0.5, 9}, 1, 1}, {[2]float64{-3, -3}, 0, 1}, {[2]float64{10, 11}, 0, 0}} {
		got, err := s.Scores(t.Context(), record.Window{Experiment: "exp", From: time.UnixMilli(0), Within: &w.within})
		if err != nil || got["a"]["right"].N != w.a || got["b"]["right"].N != w.b {
			t.Errorf("within %v: %+v, %v", w.within, got, err)
		}
	}
}
