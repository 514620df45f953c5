package run

import (
	"math"
	"testing"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
)

// Forecasts follow what batches of the model took.
func TestForecasts(t *testing.T) {
	f := NewForecasts()
	if f.Quote(&Model{}, "m", ingest.CSV, 100, 1000, 0) != nil {
		t.Error("it knows the pace of a model that nobody has measured")
	}
	m := &Model{Pace: Pace{Row: 1e6, Parallel: 1, Spread: 1}}
	const rows = 100_000
	first := f.Quote(m, "m", ingest.CSV, rows, 10*rows, 0)
	if d := first.Duration(rows); d < 100*time.Second || d > 110*time.Second || first.P95(rows) <= d {
		t.Errorf("%s, %s", d, first.P95(rows))
	}
	if shared := f.Quote(m, "m", ingest.CSV, rows, 10*rows, rows).Duration(rows); shared < first.Duration(rows)*19/10 {
		t.Errorf("with as many rows of others: %s", shared)
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := 0.0
	for range 20 {
		b := &job.Batch{Model: "m", Status: job.Completed, Counts: job.Counts{Total: rows}, Since: start, StartedAt: start, CompletedAt: start.Add(300 * time.Second), Quote: f.Quote(m, "m", ingest.CSV, rows, 10*rows, 0)}
		last = f.Learn(b)
	}
	if math.Abs(last-1) > 0.05 {
		t.Errorf("after 20 batches that took three times as long, the next is off by %.2f", last)
	}
	if other := f.Quote(m, "other", ingest.CSV, rows, 10*rows, 0); other.Row != first.Row {
		t.Error("another model's forecast has changed")
	}
	odd := []*job.Batch{
		{Status: job.Completed},
		{Status: job.Failed, Quote: first, Counts: job.Counts{Total: 1}, StartedAt: start, CompletedAt: start.Add(time.Hour)},
		{Status: job.Completed, Quote: first, Counts: job.Counts{Total: 1}, Since: start.Add(time.Minute), StartedAt: start, CompletedAt: start.Add(time.Hour)},
		{Status: job.Completed, Quote: first, Counts: job.Counts{Total: 1}, StartedAt: start, CompletedAt: start.Add(time.Millisecond)},
	}
	for i, b := range odd {
		if f.Learn(b) != 0 {
			t.Errorf("it learns from batch %d", i)
		}
	}
}
