package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
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
	for name, tt := range map[string]struct {
		content []byte
		rows    int64
		exact   bool
		off     float64
	}{
		"few rows":   {text(10), 10, true, 0},
		"plain":      {text(20_000), 20_000, false, 0.01},
		"compressed": {zipped(text(100_000)), 100_000, false, 0.15},
	} {
		key := "acme/" + strings.ReplaceAll(name, " ", "_")
		if _, err := bucket.Put(t.Context(), key, bytes.NewReader(tt.content), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		b := &job.Batch{Spec: ingest.Spec{Inputs: []ingest.Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}}}
		src := &counted{Source: run.Source(bucket, job.Object{Key: key})}
		var err error
		if b.File, err = ingest.Inspect(t.Context(), src, ingest.File{Format: ingest.CSV}, &b.Spec, a.options); err != nil {
			t.Fatal(err)
		}
		s, err := a.try(context.Background(), b, src)
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
