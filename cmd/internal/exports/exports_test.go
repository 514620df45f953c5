package exports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/batch/export"
	batch "sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/inference/job"
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/audit"
	"sluice/internal/platform/audit/trail"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

var start = time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)

// shop is a store whose clock goes on by a second with each aggregate.
type shop struct {
	*repo.Store
	log record.Store // nil for none
	now time.Time
	n   int
}

func newShop() *shop {
	s := &shop{now: start}
	s.Store = repo.New(memrepo.New(memrepo.Config{}), repo.Config{Now: func() time.Time { return s.now }})
	return s
}

// in has fn work on a tenant, and a second pass.
func (s *shop) in(t *testing.T, tenant string, fn func(ctx context.Context, tx *repo.Tx) error) {
	t.Helper()
	if err := s.Do(t.Context(), repo.Scope{Tenant: tenant}, fn); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	s.n++
}

func (s *shop) predict(t *testing.T, tenant string) {
	t.Helper()
	s.in(t, tenant, func(ctx context.Context, tx *repo.Tx) error {
		p := &job.Prediction{Status: job.Succeeded, Model: "iris", Served: "2", ClientRef: fmt.Sprint("ref ", s.n)}
		p.ID = job.ID(fmt.Sprintf("pred_%06d", s.n))
		return job.Predictions.Add(ctx, tx, p)
	})
}

func open(t *testing.T, s *shop, name string, slice export.Slice) export.Scan {
	t.Helper()
	for _, d := range Datasets(s.Store, s.log) {
		if d.Name == name {
			scan, err := d.Open(t.Context(), "acme", slice)
			if err != nil {
				t.Fatal(err)
			}
			return scan
		}
	}
	t.Fatal("no dataset " + name)
	return nil
}

// drain reads until the end, and returns a column of all rows.
func drain(t *testing.T, scan export.Scan, column string) (cells []any) {
	t.Helper()
	for c := table.NewChunk(scan.Schema()); ; {
		err := scan.Read(t.Context(), c)
		if errors.Is(err, io.EOF) {
			return cells
		}
		if err := errors.Join(err, c.Check()); err != nil {
			t.Fatal(err)
		}
		for row := range c.Rows() {
			cells = append(cells, tabletest.Cell(c.Column(scan.Schema().Index(column)), row))
		}
	}
}

// All that there was at as_of is read, over pages and chunks, and what comes while
// it is read is gone past, so that the count is right.
func TestJobs(t *testing.T) {
	s := newShop()
	const before, later = 5500, 700
	for range before {
		s.predict(t, "acme")
	}
	s.predict(t, "rival")
	asOf := s.now
	scan := open(t, s, "jobs", export.Slice{AsOf: asOf})
	refs := drain(t, scan, "client_ref")
	for i, ref := range refs {
		if ref != fmt.Sprint("ref ", i) {
			t.Fatalf("row %d is %v", i, ref)
		}
	}
	for range later {
		s.predict(t, "acme")
	}
	if n, err := scan.Count(t.Context()); err != nil || n != before+later {
		t.Errorf("the store counts %d, %v", n, err)
	}
	if more := drain(t, scan, "id"); len(refs) != before || len(more) != 0 || scan.Seen() != before+later {
		t.Errorf("%d rows and %d more, %d seen", len(refs), len(more), scan.Seen())
	}
	some := open(t, s, "jobs", export.Slice{AsOf: asOf, From: start.Add(10 * time.Second), To: start.Add(20 * time.Second)})
	if got := drain(t, some, "client_ref"); len(got) != 10 || got[0] != "ref 10" {
		t.Errorf("of ten seconds: %v", got)
	}
}

// Usage has whole hours that had ended.
func TestUsage(t *testing.T) {
	s := newShop()
	for h := range 5 {
		s.in(t, "acme", func(ctx context.Context, tx *repo.Tx) error {
			u := &usage.Total{Hour: start.Add(time.Duration(h) * time.Hour), Used: usage.Entry{What: usage.What{Model: "iris", Mode: usage.Online}, Amount: usage.Amount{Requests: int64(h)}}}
			u.ID = usage.ID(fmt.Sprint("hour", h))
			return usage.Totals.Add(ctx, tx, u)
		})
	}
	at := func(h float64) time.Time { return start.Add(time.Duration(h * float64(time.Hour))) }
	for _, tt := range []struct {
		slice export.Slice
		want  []any
	}{
		{export.Slice{AsOf: at(3.9)}, []any{int64(0), int64(1), int64(2)}},
		{export.Slice{AsOf: at(9), From: at(1), To: at(3)}, []any{int64(1), int64(2)}},
		{export.Slice{AsOf: at(0.5)}, nil},
	} {
		scan := open(t, s, "usage", tt.slice)
		if diff := cmp.Diff(tt.want, drain(t, scan, "requests")); diff != "" {
			t.Errorf("%+v: %s", tt.slice, diff)
		}
		if n, err := scan.Count(t.Context()); err != nil || n != scan.Seen() || int(n) != len(tt.want) {
			t.Errorf("the store counts %d, %d were seen, %v", n, scan.Seen(), err)
		}
	}
}

func TestAuditEntries(t *testing.T) {
	s := newShop()
	for range 3 {
		s.in(t, "acme", func(ctx context.Context, tx *repo.Tx) error {
			e := &trail.Entry{Entry: audit.Entry{ID: fmt.Sprint("evt_", s.n), Time: s.now, Action: "keys.create", Outcome: audit.OK}, Index: int64(s.n)}
			e.Root.ID = trail.EntryID(e.Entry.ID)
			return trail.Entries.Add(ctx, tx, e)
		})
	}
	scan := open(t, s, "audit_entries", export.Slice{AsOf: start.Add(2 * time.Second)})
	if diff := cmp.Diff([]any{"evt_0", "evt_1"}, drain(t, scan, "id")); diff != "" {
		t.Error(diff)
	}
}

// Every row fills every column, and every dataset can be exported.
func TestDatasets(t *testing.T) {
	s := newShop()
	for _, d := range Datasets(s.Store, s.log) {
		if err := d.Schema.Check(); err != nil || d.Schema.Index(d.Time) < 0 || d.About == "" || d.Permission == "" {
			t.Errorf("%s: %v", d.Name, err)
		}
	}
	for schema, fill := range map[*table.Schema]func(*table.Chunk){
		&jobColumns: func(c *table.Chunk) {
			jobRow(&job.Prediction{}, c)
			jobRow(&job.Prediction{Failure: &job.Failure{Code: "x"}, StartedAt: start}, c)
		},
		&batchColumns: func(c *table.Chunk) {
			batchRow(&batch.Batch{}, c)
			batchRow(&batch.Batch{Failure: &batch.Failure{Code: "x"}, StartedAt: start}, c)
		},
		&predictionColumns: func(c *table.Chunk) {
			predictionRow(&record.Entry{}, c)
			predictionRow(&record.Entry{Version: "1", At: start}, c)
		},
		&releaseColumns: func(c *table.Chunk) {
			releaseRow(past[release.State]{}, c)
			releaseRow(past[release.State]{ID: "rel_1", Began: start}, c)
		},
		&usageColumns: func(c *table.Chunk) { usageRow(&usage.Total{}, c); usageRow(&usage.Total{Hour: start}, c) },
		&auditColumns: func(c *table.Chunk) { auditRow(&trail.Entry{}, c); auditRow(&trail.Entry{Index: 7}, c) },
	} {
		c := table.NewChunk(*schema)
		if fill(c); c.Check() != nil || c.Rows() != 2 {
			t.Errorf("%d rows, %v", c.Rows(), c.Check())
		}
	}
}
