package sqliterecord

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/record/recordtest"
	"sluice/internal/platform/sqlite"
)

// A file that has as much as it may keeps no more entries, and everything else.
func TestFullFile(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "log.db"), Config{MaxSize: 400 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	from := time.Now().UTC().Add(-time.Hour).Truncate(time.Hour)
	var full error
	all, size := 0, int64(0)
	for i := range 40 {
		list := recordtest.Traffic("acme", from.Add(time.Duration(i)*time.Minute), 200, 1)
		for range 2 { // again they count once, as long as they are kept
			if full = s.Append(t.Context(), list); full != nil {
				break
			}
		}
		if all += len(list); full != nil && !errors.Is(full, record.ErrFull) {
			t.Fatal(full)
		}
		if size, err = s.conn.One(sqlite.New("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")); err != nil {
			t.Fatal(err)
		}
	}
	if full == nil || size > 900<<10 {
		t.Errorf("%d bytes are used, %v", size, full)
	}
	rollups, err := s.Statistics(t.Context(), record.Filter{Tenant: "acme"}, record.Grouping{By: func(record.Series) record.Series { return record.Series{} }})
	counted := int64(0)
	for _, r := range rollups {
		for _, n := range r.Outcomes {
			counted += n
		}
	}
	if err != nil || counted != int64(all) {
		t.Errorf("%d entries count, %v, want %d", counted, err, all)
	}
	found, err := s.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: "acme"}, Forward: true, Limit: 1})
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if got, err := s.Label(t.Context(), "acme", []record.Label{{ID: found[0].ID, Name: "n", Score: new(1.0)}}, time.Now()); err != nil || got[0] != record.Added {
		t.Errorf("labelled: %v, %v", got, err)
	}
	if err := s.Expire(t.Context(), time.Now(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), recordtest.Traffic("acme", from, 10, 1)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Of a model that is gone nothing is left in the end, and one that comes back counts,
// whoever remembers the number that it had.
func TestSeriesAreGivenUp(t *testing.T) {
	first := open(t).(*stored)
	second := openPath(t, first.path).(*stored)
	now := time.Now().UTC().Truncate(time.Minute)
	add := func(s *stored, model string) {
		t.Helper()
		e := recordtest.Traffic("acme", now, 1, 1)[0]
		e.Model = model
		if err := s.Append(t.Context(), []*record.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	series := func() int64 {
		t.Helper()
		n, err := first.conn.One(sqlite.New("SELECT count(*) FROM series"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	add(first, "gone")
	add(second, "gone")
	for _, step := range []struct {
		entries, statistics time.Time
		left                bool
	}{{now.Add(time.Hour), now.Add(-time.Hour), true}, {now.Add(-time.Hour), now.Add(time.Hour), true}, {now.Add(time.Hour), now.Add(time.Hour), false}} {
		if err := first.Expire(t.Context(), step.entries, step.statistics); err != nil {
			t.Fatal(err)
		}
		if left := series() > 0; left != step.left {
			t.Errorf("%+v: %t is left", step, left)
		}
	}
	add(first, "new") // with the number of the one that is gone
	add(second, "gone")
	got, err := second.Statistics(t.Context(), record.Filter{Tenant: "acme", Model: "gone"}, record.Grouping{})
	if err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = second.Statistics(t.Context(), record.Filter{Tenant: "acme", Model: "new"}, record.Grouping{}); err != nil || len(got) != 1 || got[0].Outcomes[0]+got[0].Outcomes[2] != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}
