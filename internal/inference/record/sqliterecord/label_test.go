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
