package run

import (
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
)

// A chunk has the fewer rows, the more they are answered with.
func TestWideAnswers(t *testing.T) {
	b := newBench(t, ingest.JSONL, ingest.JSONL, 40)
	b.model.wide, b.worker.cfg.ChunkSize = 1<<14, 1<<20
	found := b.finish(2)
	if found.Status != job.Completed || found.Counts.Total != 40 || len(found.Chunks) != 3 || found.Chunks[0].Rows != 15 {
		t.Errorf("%s, %+v in %d chunks", found.Status, found.Counts, len(found.Chunks))
	}
	narrow := b.turn()
	b.model.wide = 0
	if m, _ := b.model.Model("", ""); narrow.rowsOf(&m) != 30 {
		t.Errorf("%d rows of a narrow model", narrow.rowsOf(&m))
	}
	b.model.wide = 1 << 40
	if m, _ := b.model.Model("", ""); narrow.rowsOf(&m) != 1 {
		t.Errorf("%d rows of one that is too wide", narrow.rowsOf(&m))
	}
}
