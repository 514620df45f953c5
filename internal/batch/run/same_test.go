package run

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
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

// Of wide rows, too, exactly the equal ones are found, wherever they differ.
func TestSameWideRows(t *testing.T) {
	const width = 20 // floats, so that a row is more than is sampled
	rapid.Check(t, func(rt *rapid.T) {
		cells := rapid.SliceOfN(rapid.IntRange(0, width-1), 1, 60).Draw(rt, "different") // a row's only cell that is not 1
		repeats := rapid.IntRange(1, 3).Draw(rt, "repeats")
		var text strings.Builder
		var columns []string
		for j := range width {
			columns = append(columns, fmt.Sprint("p", j))
		}
		text.WriteString(strings.Join(columns, ",") + "\n")
		first := map[string]int32{}
		var want []int
		var same []int32
		for i, cell := range slices.Repeat(cells, repeats) {
			row := slices.Repeat([]string{"1"}, width)
			row[cell] = fmt.Sprint(2 + i%7)
			line := strings.Join(row, ",")
			if _, known := first[line]; !known {
				first[line] = int32(i)
				want = append(want, i)
			}
			same = append(same, first[line])
			text.WriteString(line + "\n")
		}
		p := passOf(rt, text.String(), ingest.Spec{Inputs: []ingest.Input{{Name: "x", Type: "FP32", Width: width, Columns: columns}}})
		if got := p.collapse(); !slices.Equal(got, want) || p.reused != len(same)-len(want) || p.reused > 0 && !slices.Equal(p.same, same) {
			rt.Fatalf("rows %v are run of %v, want %v; reused %d", got, p.same, want, p.reused)
		}
	})
}

// passOf is a pass over all rows of a file, none of which is bad.
func passOf(t *rapid.T, text string, spec ingest.Spec) *pass {
	bucket := memblob.New(memblob.Config{})
	if _, err := bucket.Put(t.Context(), "acme/rows", strings.NewReader(text), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	source := Source(bucket, job.Object{Key: "acme/rows"})
	f, err := ingest.Inspect(t.Context(), source, ingest.File{Format: ingest.CSV}, &spec, ingest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ingest.Open(t.Context(), source, f, &spec, f.First, ingest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &pass{chunk: new(ingest.Chunk)}
	if err := r.Read(p.chunk, ingest.Limit{Rows: 1 << 20, Bytes: 1 << 30}); err != nil || len(p.chunk.Errors) > 0 {
		t.Fatal(err, p.chunk.Errors)
	}
	for n := range p.chunk.Good {
		p.todo = append(p.todo, n)
	}
	return p
}
