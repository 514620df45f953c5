package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/batch/table"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// A file's rows are estimated from the first, and a deadline that they break is
// refused with the forecast.
func TestQuote(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	bucket := memblob.New(memblob.Config{})
	a := &API{bucket: bucket, forecasts: run.NewForecasts(), store: repo.New(memrepo.New(memrepo.Config{}), repo.Config{Now: func() time.Time { return now }})}
	m := &run.Model{Best: 24, Pace: run.Pace{Row: 1e6, Parallel: 1, Spread: 1}}
	text := func(rows int) []byte {
		var b bytes.Buffer
		b.WriteString("x\n")
		for i := range rows {
			fmt.Fprintf(&b, "%07d.%012d\n", i, i*i%999_999)
		}
		return b.Bytes()
	}
	zipped := func(text []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(text)
		_ = w.Close()
		return b.Bytes()
	}
	book := func(rows int, note string) []byte {
		schema := table.Schema{{Name: "x", Type: table.Float}, {Name: "note", Type: table.String}}
		var b bytes.Buffer
		w, err := encode.New(&b, schema, encode.Options{Format: encode.XLSX})
		if err != nil {
			t.Fatal(err)
		}
		c := table.NewChunk(schema)
		for i := range rows {
			c.Column(0).AppendFloat(float64(i*i%999_999) / 7)
			c.Column(1).AppendString(note)
		}
		if err := errors.Join(w.Write(c), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	batches := func(each ...int) []byte {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float32}}, nil)
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(schema))
		for _, n := range each {
			rows := array.NewRecordBuilder(memory.DefaultAllocator, schema)
			rows.Field(0).(*array.Float32Builder).AppendValues(make([]float32, n), nil)
			if err := w.Write(rows.NewRecordBatch()); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		return b.Bytes()
	}
	for name, tt := range map[string]struct {
		format  ingest.Format
		content []byte
		rows    int64
		exact   bool
		off     float64
	}{
		"few rows":           {ingest.CSV, text(10), 10, true, 0},
		"plain":              {ingest.CSV, text(20_000), 20_000, false, 0.01},
		"compressed":         {ingest.CSV, zipped(text(100_000)), 100_000, false, 0.15},
		"small record batch": {ingest.Arrow, batches(500, 50_000), 50_500, true, 0},
		"large record batch": {ingest.Arrow, batches(50_000), 50_000, true, 0},
		"few rows in a book": {ingest.XLSX, book(10, "n"), 10, true, 0},
		"workbook":           {ingest.XLSX, book(40_000, "n"), 40_000, false, 0.15},
		"long rows":          {ingest.XLSX, book(6000, strings.Repeat("n", 3000)), 6000, false, 0.15},
	} {
		key := "acme/" + strings.ReplaceAll(name, " ", "_")
		if _, err := bucket.Put(t.Context(), key, bytes.NewReader(tt.content), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		b := &job.Batch{Spec: ingest.Spec{Inputs: []ingest.Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}}}
		src := &counted{Source: run.Source(bucket, job.Object{Key: key})}
		var err error
		if b.File, err = ingest.Inspect(t.Context(), src, ingest.File{Format: tt.format}, &b.Spec, a.options); err != nil {
			t.Fatal(err)
		}
		s, err := try(context.Background(), b, src, a.options)
		if err != nil {
			t.Fatal(err)
		}
		e := s.of(&b.File, int64(len(tt.content)), src)
		if e.exact != tt.exact || float64(e.rows) < float64(tt.rows)*(1-tt.off) || float64(e.rows) > float64(tt.rows)*(1+tt.off) {
			t.Errorf("%s: %+v, want %d rows", name, e, tt.rows)
		}
		if err := a.quote(t.Context(), b, m, "acme", e); err != nil || b.Quote == nil || b.Quote.Rows != e.rows || b.RunRows != 24 {
			t.Fatalf("%s: %+v, %v", name, b.Quote, err)
		}
		b.Deadline = now.Add(b.Quote.Duration(e.rows) + time.Second)
		if err := a.quote(t.Context(), b, m, "acme", e); err != nil {
			t.Errorf("%s: a deadline that is kept is refused: %v", name, err)
		}
		b.Deadline = now.Add(b.Quote.Duration(e.rows) - time.Millisecond)
		if err := a.quote(t.Context(), b, m, "acme", e); fault.CodeOf(err) != "deadline_unattainable" {
			t.Errorf("%s: a deadline that is broken is taken: %v", name, err)
		}
	}
}
