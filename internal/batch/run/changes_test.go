package run

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/queue"
)

// zipped is a text as gzip, where it is to be.
func zipped(t *testing.T, text string, zip bool) string {
	t.Helper()
	if !zip {
		return text
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A file whose bytes become others in a way that the store does not tell fails the batch at the
// first chunk that is not what it was, and no row of another file is answered. It may end in
// empty lines.
func TestFileChangesInPlace(t *testing.T) {
	const rows, chunks, done = 200, 7, 2 // chunks of 30 rows
	csv, jsonl := file(ingest.CSV, rows)+"\n\n", file(ingest.JSONL, rows)+"\n\n"
	over := func(text, at, with string) string {
		i := strings.Index(text, at)
		return text[:i] + with + text[i+len(with):]
	}
	for name, tt := range map[string]struct {
		format        ingest.Format
		before, after string
		early         bool // the ledger was written before there were sums
		good          int  // chunks that are what they were
	}{
		"nothing":              {ingest.CSV, csv, csv, false, chunks},
		"nothing, early":       {ingest.CSV, csv, csv, true, chunks},
		"nothing, JSONL":       {ingest.JSONL, jsonl, jsonl, false, chunks},
		"a number":             {ingest.CSV, csv, over(csv, "r104,104", "r104,105"), false, 3},
		"a number, JSONL":      {ingest.JSONL, jsonl, over(jsonl, `"x":104`, `"x":105`), false, 3},
		"a note, the last":     {ingest.CSV, csv, over(csv, "199\"\n\n", "198"), false, 6},
		"rows shift":           {ingest.CSV, csv, over(csv, "r104,104", strings.Repeat("9", 60)), false, 3},
		"rows shift, early":    {ingest.CSV, csv, over(csv, "r104,104", strings.Repeat("9", 60)), true, 3},
		"rows shift, JSONL":    {ingest.JSONL, jsonl, over(jsonl, `{"id":"r104`, strings.Repeat("9", 60)), true, 3},
		"a line more":          {ingest.CSV, csv, over(csv, "r104,104", "r104\n104"), false, 3},
		"the end is gone":      {ingest.CSV, csv, csv[:strings.Index(csv, "r195,")], false, 6},
		"all behind is gone":   {ingest.CSV, csv, csv[:strings.Index(csv, "r120,")], false, 4},
		"rows come":            {ingest.CSV, csv, csv + "r200,200,more\n", false, 6},
		"rows come, early":     {ingest.CSV, csv, csv + "r200,200,more\n", true, 6},
		"empty lines come":     {ingest.CSV, csv, csv + "\n\n", false, chunks},
		"the last end is gone": {ingest.JSONL, jsonl, strings.TrimRight(jsonl, "\n"), false, 6},
	} {
		for _, zip := range []bool{false, true} {
			b := newBenchOf(t, tt.format, ingest.JSONL, rows, zipped(t, tt.before, zip))
			b.model.poisoned.Store(false)
			for i := range 1 + done {
				turn := b.turn()
				if _, err := turn.step(t.Context(), queue.NewDelivery(queue.Message{}, 1, nil)); err != nil {
					t.Fatal(err)
				}
				turn.close()
				if i > 0 {
					continue
				}
				if _, err := b.turn().update(t.Context(), func(x *job.Batch, _ time.Time) error {
					x.Input.ETag = "" // as if the store did not know
					for i := range x.Chunks {
						if tt.early {
							x.Chunks[i].Sum = 0
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(b.find().Chunks); n != chunks {
				t.Fatalf("%d chunks", n)
			}
			if _, err := b.bucket.Put(t.Context(), b.find().Input.Key, strings.NewReader(zipped(t, tt.after, zip)), blob.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			found := b.finish(1)
			want := int64(min(30*tt.good, rows))
			if got := found.Counts.Succeeded + found.Counts.Failed; got != want || (found.Failure != nil) != (tt.good < chunks) || found.Failure != nil && found.Failure.Code != "input_changed" {
				t.Errorf("%s, compressed %t: %d rows have an answer, expected %d: %s, %+v", name, zip, got, want, found.Status, found.Failure)
			}
			b.tidy(found)
		}
	}
}
