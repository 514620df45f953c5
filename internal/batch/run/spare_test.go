package run

import (
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/platform/spare"
)

// Work that gives way to requests, even to more than there are processors for, comes to its end with the
// same results.
func TestBesideRequests(t *testing.T) {
	quiet := newBench(t, ingest.CSV, ingest.JSONL, 60)
	want := quiet.content(quiet.finish(1))
	for _, requests := range []int{0, 1, 1000} {
		b := newBench(t, ingest.CSV, ingest.JSONL, 60)
		cpu := spare.New()
		b.worker.cfg.CPU = cpu
		for range requests {
			cpu.Begin()
		}
		if got := b.content(b.finish(2)); got != want {
			t.Errorf("other results beside %d requests", requests)
		}
		cpu.Close()
	}
}
