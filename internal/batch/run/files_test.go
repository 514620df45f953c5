package run

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// inAll has the batch make results in all formats.
func (b *bench) inAll() {
	b.t.Helper()
	if _, err := b.turn().update(b.t.Context(), func(x *job.Batch, _ time.Time) error {
		m, _ := b.model.Model("", "")
		x.Output = job.Output{Format: ingest.JSONL, Formats: []encode.Format{encode.XLSX, encode.JSONL, encode.Parquet, encode.CSV}, Columns: Schema(x, &m)}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) files(found job.Batch) map[encode.Format][]byte {
	b.t.Helper()
	all := map[encode.Format][]byte{}
	for _, f := range found.Files {
		content, err := b.turn().load(b.t.Context(), f.Object)
		if err != nil || f.Failure != nil || f.Object.Rows != found.Results.Rows || f.Object.Bytes != int64(len(content)) {
			b.t.Fatalf("%+v, %v", f, err)
		}
		all[f.Format] = content
	}
	return all
}

// All formats have the same rows: CSV is what a batch of CSV alone writes, and workers that
// die change no byte; what they leave is the sweep's.
func TestFormats(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 250)
	b.inAll()
	found := b.finish(2)
	got := b.files(found)
	if len(got) != 3 || found.Status != job.Completed {
		t.Fatalf("%s, %d files", found.Status, len(got))
	}
	alone := newBench(t, ingest.CSV, ingest.CSV, 250)
	if want := alone.content(alone.finish(1)); string(got[encode.CSV]) != want {
		t.Errorf("CSV is not what it is alone:\n%.500s\n%.500s", got[encode.CSV], want)
	}
	for i, sheet := range []string{"data_1", ""} {
		f, err := ingest.Inspect(t.Context(), Source(b.bucket, found.Files[i].Object), ingest.File{Sheet: sheet}, &ingest.Spec{ID: "row_id", Keep: []string{"y", "note"}}, ingest.Options{})
		if err != nil || i == 1 && f.Rows != 250 {
			t.Errorf("%+v, %v", f, err)
		}
	}
	book, err := excelize.OpenReader(bytes.NewReader(got[encode.XLSX]))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	rows, err := book.GetRows("data_1")
	if err != nil || len(rows) != 251 || strings.Join(rows[0], ",") != "row_id,index,status,y,z,s,note,error_code,error_message" || rows[3][3] != "4" {
		t.Errorf("%d rows, %v: %v", len(rows), err, rows[:min(4, len(rows))])
	}
	columns := found.Output.Columns
	if z := columns[columns.Index("z")]; z.Items != table.Int {
		t.Errorf("%+v: the lists are not of integers", z)
	}
	spec := &ingest.Spec{ID: "row_id", Inputs: []ingest.Input{{Name: "z", Type: "INT64", Width: 2, Columns: []string{"z"}}}}
	if f, err := ingest.Inspect(t.Context(), Source(b.bucket, found.Files[1].Object), ingest.File{}, spec, ingest.Options{}); err != nil || f.Rows != 250 {
		t.Errorf("lists in Parquet: %+v, %v", f, err)
	}
	b.tidy(found)

	disturbed := newBench(t, ingest.CSV, ingest.JSONL, 250)
	disturbed.inAll()
	for range 6 {
		ctx, kill := context.WithTimeout(t.Context(), 3*time.Millisecond)
		_ = disturbed.work(ctx)
		kill()
		disturbed.ahead.Add(int64(disturbed.worker.cfg.Job.Lease))
	}
	other := disturbed.finish(3)
	for f, content := range disturbed.files(other) {
		if f == encode.CSV && !bytes.Equal(content, got[f]) { // the others have the time of the batch in them
			t.Errorf("%s has other bytes after disturbances", f)
		}
	}
	if _, err := b.turn().update(t.Context(), func(x *job.Batch, now time.Time) error { return x.Retry(now, b.worker.cfg.Job.Timing) }); err != nil {
		t.Fatal(err)
	}
	if again := b.finish(1); len(b.files(again)) != 3 {
		t.Errorf("%+v", again.Files)
	}
}

// What a workbook cannot hold is said of the workbook, and costs nothing else.
func TestFormatThatDoesNotFit(t *testing.T) {
	b := newBenchOf(t, ingest.CSV, ingest.JSONL, 1, "id,x,note\nr1,1,"+strings.Repeat("n", 40_000)+"\n")
	b.inAll()
	found := b.finish(1)
	if found.Status != job.Completed || found.Counts.Succeeded != 1 || len(found.Files) != 3 || found.Files[0].Failure == nil || found.Files[0].Failure.Code != "text_too_long" || found.Files[1].Object.Key == "" {
		t.Errorf("%s, %+v", found.Status, found.Files)
	}
	b.tidy(found)
}

// A line that is none of our own is a defect, and never a row.
func TestForeignLines(t *testing.T) {
	b := newBench(t, ingest.CSV, ingest.JSONL, 1)
	m, _ := b.model.Model("", "")
	found := b.find()
	s := Schema(&found, &m)
	for _, text := range []string{"x\n", `{"index":"a"}` + "\n", `{"y":"a"}` + "\n", `{"index":1.5}` + "\n"} {
		c := table.NewChunk(s)
		if err := newResultLines(s).read(c, []byte(text)); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
