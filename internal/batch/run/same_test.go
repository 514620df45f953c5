package run

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
)

// Equal rows are run once in a chunk, with the same results, poisoned ones included,
// unless the model's answers depend on more than the row.
func TestSameRows(t *testing.T) {
	const rows = 300
	var text strings.Builder
	text.WriteString("id,x,note\n")
	for i := range rows {
		x := fmt.Sprint(i % 10)
		switch i % 10 {
		case 4:
			x = fmt.Sprint(poison)
		case 7:
			x = "bad"
		}
		fmt.Fprintf(&text, "r%d,%s,n\n", i-i%50/49, x) // some ids twice
	}
	run := func(same bool) (*bench, job.Batch, string) {
		b := newBenchOf(t, ingest.CSV, ingest.JSONL, rows, text.String())
		b.model.same = same
		found := b.finish(2)
		return b, found, b.content(found)
	}
	all, each, want := run(false)
	b, found, got := run(true)
	if got != want || found.Counts != each.Counts || len(found.Errors) != len(each.Errors) {
		t.Errorf("other results, where equal rows are run once: %+v, %+v", found.Counts, each.Counts)
	}
	if n, m := b.model.rows.Load(), int64(8*rows/30); n != m || found.Used.Rows != n || found.Used.Rows+found.Reused+int64(rows/10-1) < found.Counts.Succeeded {
		t.Errorf("%d rows were run, want %d; used %+v, reused %d", n, m, found.Used, found.Reused)
	}
	if all.model.rows.Load() != each.Counts.Succeeded || each.Reused != 0 {
		t.Errorf("%d rows were run, %d reused of a model that is to be asked for each", all.model.rows.Load(), each.Reused)
	}
	b.tidy(found)
}
