package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/batch/encode/parquet"
	"sluice/internal/batch/encode/xlsx"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
)

// rowsAs returns 400 rows as a file that is no text, with the names r0 to r399, their numbers,
// of which those of each hundred's fourteenth are not there, and a note of fifty.
func rowsAs(t *testing.T, format ingest.Format) string {
	t.Helper()
	if format == ingest.Arrow { // in ten batches, with a dictionary of notes
		b, err := os.ReadFile("testdata/rows.arrow")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	schema := table.Schema{{Name: "id", Type: table.String}, {Name: "x", Type: table.Float32}, {Name: "note", Type: table.String}}
	var out bytes.Buffer
	var w interface {
		Write(*table.Chunk) error
		io.Closer
	} = xlsx.NewWriter(&out, schema, xlsx.Options{})
	if format == ingest.Parquet {
		out.Reset()
		w = parquet.NewWriter(&out, schema, parquet.Options{})
	}
	c := table.NewChunk(schema)
	for i := range 400 {
		c.Column(0).AppendString(fmt.Sprintf("r%d", i))
		if i%100 == 13 {
			c.Column(1).AppendNull()
		} else {
			c.Column(1).AppendFloat(float64(i))
		}
		c.Column(2).AppendString(fmt.Sprintf("n%d", i%50))
	}
	if err := w.Write(c); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Files that are no text leave the same bytes whether they are worked on at once, or by
// workers that are stopped again and again.
func TestColumns(t *testing.T) {
	for _, format := range []ingest.Format{ingest.Parquet, ingest.Arrow, ingest.XLSX} {
		t.Run(string(format), func(t *testing.T) {
			text := rowsAs(t, format)
			quiet := newBenchOf(t, format, ingest.JSONL, 0, text)
			found := quiet.finish(1)
			want := quiet.content(found)
			if found.Counts != (job.Counts{Total: 400, Succeeded: 396, Failed: 4}) || strings.Count(want, "\n") != 400 || !strings.Contains(want, `"row_id":"r399"`) || !strings.Contains(want, `"note":"n49"`) {
				t.Fatalf("%+v, %.300s", found.Counts, want)
			}
			b := newBenchOf(t, format, ingest.JSONL, 0, text)
			for range 5 {
				ctx, kill := context.WithCancel(t.Context())
				var n atomic.Int64
				b.model.fail = func() error {
					if n.Add(1) == 9 {
						kill()
					}
					return nil
				}
				_ = b.work(ctx)
				kill()
				b.ahead.Add(int64(time.Second))
			}
			if b.find().Status.Final() {
				t.Fatal("it ended: nothing was disturbed")
			}
			b.model.fail = nil
			if got := b.content(b.finish(2)); got != want {
				t.Errorf("other results than without disturbances: %d bytes, %d", len(got), len(want))
			}
		})
	}
}
