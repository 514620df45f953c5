package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// A batch says what it waits for, as long as it does.
func TestWaiting(t *testing.T) {
	a := &API{store: repo.New(memrepo.New(memrepo.Config{}), repo.Config{})}
	for status, want := range map[job.Status]bool{job.Validating: true, job.Running: true, job.Paused: false, job.Failed: false, job.Cancelled: false} {
		b := job.Batch{Status: status, Model: "iris", ModelVersion: "2", Absent: time.Now()}
		v := a.view("/v1", &b)
		if (v.Waiting != nil) != want || want && !strings.Contains(v.Waiting.Message, "version 2 of the model iris") {
			t.Errorf("%s: %+v", status, v.Waiting)
		}
		b.Absent = time.Time{}
		if v := a.view("/v1", &b); v.Waiting != nil {
			t.Errorf("%s, of which nothing is missing: %+v", status, v.Waiting)
		}
	}
}

// Parts are read as one text, from any place on; one that is damaged is no end.
func TestJoined(t *testing.T) {
	bucket := memblob.New(memblob.Config{})
	a := &API{bucket: bucket}
	rapid.Check(t, func(rt *rapid.T) {
		head := rapid.StringN(0, 5, 10).Draw(rt, "head")
		whole := head
		var parts []job.Object
		for i, text := range rapid.SliceOfN(rapid.StringN(0, 5, 10), 0, 5).Draw(rt, "parts") {
			o := job.Object{Key: "acme/" + string(rune('a'+i)), Bytes: int64(len(text))}
			sum := sha256.Sum256([]byte(text))
			o.SHA256 = hex.EncodeToString(sum[:])
			if _, err := bucket.Put(t.Context(), o.Key, strings.NewReader(text), blob.PutOptions{}); err != nil {
				rt.Fatal(err)
			}
			parts = append(parts, o)
			whole += text
		}
		offset := rapid.IntRange(0, len(whole)).Draw(rt, "offset")
		r, err := a.joined(head, parts)(t.Context(), int64(offset), 0)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != whole[offset:] {
			rt.Fatalf("%q, %v, want %q", got, err, whole[offset:])
		}
		if err := r.Close(); err != nil {
			rt.Fatal(err)
		}
	})
	_, _ = bucket.Put(t.Context(), "acme/x", bytes.NewReader([]byte("rotten")), blob.PutOptions{})
	r, _ := a.joined("", []job.Object{{Key: "acme/x", Bytes: 6, SHA256: strings.Repeat("0", 64)}})(t.Context(), 0, 0)
	if _, err := io.ReadAll(r); fault.CodeOf(err) != blob.CodeChecksum {
		t.Error(err)
	}
}

func TestInputs(t *testing.T) {
	one := &run.Model{Inputs: []run.Port{{Name: "x", Type: "FP32", Shape: []int64{2, 2}}}}
	two := &run.Model{Inputs: []run.Port{{Name: "x", Type: "FP32"}, {Name: "y", Type: "INT64", Shape: []int64{1}}}}
	f := func(columns ...string) *ingest.File { return &ingest.File{Format: ingest.CSV, Columns: columns} }
	for name, tt := range map[string]struct {
		file    *ingest.File
		in      NewBatch
		model   *run.Model
		want    string // columns
		wantErr bool
	}{
		"named":       {f("a", "b"), NewBatch{Columns: map[string][]string{"x": {"4", "3", "2", "1"}}}, one, "4 3 2 1", false},
		"a list":      {f("id", "x"), NewBatch{}, one, "x", false},
		"the others":  {f("a", "id", "b", "note", "c", "d"), NewBatch{RowID: "id", Output: &NewBatchOutput{IncludeInput: []string{"note"}}}, one, "a b c d", false},
		"too-many":    {f("a", "b", "c", "d", "e"), NewBatch{}, one, "x", false}, // which is found missing
		"each its":    {f("y", "x"), NewBatch{}, two, "x y", false},
		"some":        {f("y", "z"), NewBatch{Columns: map[string][]string{"x": {"z"}}}, two, "z y", false},
		"not enough":  {f("a", "b"), NewBatch{Columns: map[string][]string{"x": {"a", "b"}}}, one, "", true},
		"no input":    {f("a", "b"), NewBatch{Columns: map[string][]string{"z": {"a", "b"}}}, two, "", true},
		"gaps":        {f("", "a", "b", "c", "", "d"), NewBatch{}, one, "a b c d", false}, // a sheet's columns without a name
		"JSON, named": {&ingest.File{Format: ingest.JSONL}, NewBatch{}, one, "x", false},
	} {
		got, err := Inputs(tt.file, &tt.in, tt.model)
		var columns []string
		for _, in := range got {
			columns = append(columns, in.Columns...)
		}
		if (err != nil) != tt.wantErr || strings.Join(columns, " ") != tt.want {
			t.Errorf("%s: %v, %v", name, columns, err)
		}
	}
	doubtful := f("a", "b", "c", "d")
	doubtful.Dialect.Guessed = true
	if _, err := Inputs(doubtful, &NewBatch{}, one); fault.CodeOf(err) != "header_unknown" {
		t.Error(err)
	}
	if got, _ := Inputs(f("x"), &NewBatch{}, one); got[0].Width != 4 {
		t.Errorf("%+v", got)
	}
}

// A few files are checked at a time; others wait for their turn, and not for long.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(nil, nil, nil, nil, nil, nil, ingest.Options{}, nil)
		var done func()
		for range checked {
			var err error
			if done, err = a.checks.Take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.checks.Take(t.Context()); !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
			t.Error(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.check(gone, nil, nil, nil, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		done()
		if _, err := a.checks.Take(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A list can be what an input is made of, also where the request names it; and the turn is
// given back whatever becomes of the check.
func TestCheckLists(t *testing.T) {
	list, err := os.ReadFile("testdata/list.parquet") // of one row, whose column l is a list of four floats
	if err != nil {
		t.Fatal(err)
	}
	bucket := memblob.New(memblob.Config{})
	if _, err := bucket.Put(t.Context(), "acme/f", bytes.NewReader(list), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a := New(nil, nil, nil, nil, nil, nil, ingest.Options{}, nil)
	m := &run.Model{Inputs: []run.Port{{Name: "x", Type: "FP32", Shape: []int64{4}}}}
	for range checked + 1 {
		s, err := a.check(t.Context(), &job.Batch{Output: job.Output{Format: ingest.JSONL}}, &NewBatch{Columns: map[string][]string{"x": {"l"}}}, m, run.Source(bucket, job.Object{Key: "acme/f"}))
		if err != nil || s.rows != 1 {
			t.Fatal(s, err)
		}
	}
	if _, err := a.check(t.Context(), &job.Batch{}, &NewBatch{RowID: "l"}, m, run.Source(bucket, job.Object{Key: "acme/f"})); fault.CodeOf(err) != "column_type" {
		t.Error(err)
	}
	m.Inputs[0].Shape[0] = 3
	_, err = a.check(t.Context(), &job.Batch{Output: job.Output{Format: ingest.JSONL}}, &NewBatch{Columns: map[string][]string{"x": {"l"}}}, m, run.Source(bucket, job.Object{Key: "acme/f"}))
	if f := fault.Of(err); f.Code != "rows_invalid_file" || len(f.Details) != 1 || !strings.HasPrefix(f.Details[0].Message, "row 0, from 0: column l: ") {
		t.Errorf("%v, %+v", err, f.Details)
	}
}

// A row that is larger than what is tried of a file says nothing of those behind it.
func TestLargeFirstRow(t *testing.T) {
	bucket := memblob.New(memblob.Config{})
	a := New(nil, nil, nil, nil, nil, nil, ingest.Options{}, nil)
	m := &run.Model{Inputs: []run.Port{{Name: "a", Type: "FP32"}}}
	large := strings.Repeat("x", 3<<20) + "\n"
	for name, tt := range map[string]struct {
		text string
		stop bool
		rows int64 // 0: it is refused
	}{
		"one":        {"a\n" + large + "1\n2\n", false, 3},
		"to-stop":    {"a\n" + large + "1\n2\n", true, 0},
		"all":        {"a\n" + large + large + "x\n", false, 0},
		"too-many":   {"a\n" + strings.Repeat(large, triedChunks) + "1\n", false, 0},
		"small-many": {"a\n" + strings.Repeat("x\n", tried) + "1\n", false, 0},
	} {
		if _, err := bucket.Put(t.Context(), "acme/"+name, strings.NewReader(tt.text), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		s, err := a.check(t.Context(), &job.Batch{Stop: tt.stop, Output: job.Output{Format: ingest.JSONL}}, &NewBatch{}, m, run.Source(bucket, job.Object{Key: "acme/" + name}))
		f := fault.Of(err)
		if tt.rows > 0 && (err != nil || s.rows != tt.rows) || tt.rows == 0 && (f.Code != "rows_invalid_file" || len(f.Details) == 0 || f.Details[0].Line != 2) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for text, want := range map[string][2]string{"m": {"m", ""}, "m:3": {"m", "3"}, "m@stable": {"m", "stable"}, ":3": {":3", ""}} {
		if model, version := target(text); model != want[0] || version != want[1] {
			t.Errorf("%s: %s, %s", text, model, version)
		}
	}
}
