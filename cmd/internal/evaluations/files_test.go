package evaluations

import (
	"strings"
	"testing"
	"testing/synctest"

	"sluice/internal/batch/api"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/blob/memblob"
	"sluice/internal/platform/fault"
)

var served = &evaluation.Served{Rows: true, Inputs: []model.Port{{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 2}}}}

// Files are looked at in turns: who gets none in time is told to come again.
func TestInspectTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := memblob.New(memblob.Config{})
		if _, err := bucket.Put(t.Context(), "acme/file", strings.NewReader("a,b\n1,2\n"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		ports, err := portsOf(served)
		if err != nil {
			t.Fatal(err)
		}
		f := files{bucket: bucket, turns: api.NewTurns()}
		inspect := func() error {
			_, err := f.inspect(t.Context(), evaluation.Upload{Columns: map[string][]string{"x": {"a", "b"}}}, ports, run.Source(bucket, job.Object{Key: "acme/file"}))
			return err
		}
		for range 10 { // each gives its turn back
			if err := inspect(); err != nil {
				t.Fatal(err)
			}
		}
		for { // somebody else has all turns
			if _, err := f.turns.Take(t.Context()); err != nil {
				break
			}
		}
		if err := inspect(); fault.CodeOf(err) != "batch_checks_busy" {
			t.Errorf("without a turn: %v", err)
		}
	})
}

// The rows of a file are the same cases, wherever one goes on, and however many are read at a
// time.
func TestRowsGoOn(t *testing.T) {
	bucket := memblob.New(memblob.Config{})
	text := "id,a,b,country\nr1,1,2,de\nr2,x,2,fr\nr3,5,6,\nr4,7,8,de\n"
	if _, err := bucket.Put(t.Context(), "acme/file", strings.NewReader(text), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	f := files{bucket: bucket}
	ports, err := portsOf(served)
	if err != nil {
		t.Fatal(err)
	}
	how, err := f.inspect(t.Context(), evaluation.Upload{RowID: "id", Columns: map[string][]string{"x": {"a", "b"}}, Segments: []string{"country"}}, ports, run.Source(bucket, job.Object{Key: "acme/file"}))
	if err != nil || how.File.Format != ingest.CSV {
		t.Fatalf("%+v, %v", how, err)
	}
	read := func(most int, again bool) (all []evaluation.Case) {
		r := &rows{files: f, form: how, src: run.Source(bucket, job.Object{Key: "acme/file"})}
		for cursor := ""; ; {
			cases, next, err := r.Read(t.Context(), cursor, most, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cases {
				for i := range c.Inputs {
					c.Inputs[i].Data = []byte(string(c.Inputs[i].Data)) // it is valid until the next
				}
				all = append(all, c)
			}
			if cursor = next; cursor == "" {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				return all
			}
			if again { // another process goes on
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, most := range []int{1, 2, 3, 100} {
		for _, again := range []bool{false, true} {
			all := read(most, again)
			if len(all) != 4 {
				t.Fatalf("%d at a time: %+v", most, all)
			}
			for i, c := range all {
				bad := i == 1
				if c.Name != "r"+string(rune('1'+i)) || (c.Skip == evaluation.BadRow) != bad || bad != (len(c.Inputs) == 0) || c.Values["country"] != []string{"de", "fr", "", "de"}[i] {
					t.Errorf("%d at a time, row %d: %+v", most, i, c)
				}
			}
			if in := all[3].Inputs[0]; in.Name != "x" || in.Validate() != nil || !in.Shape.Equal(tensor.Shape{1, 2}) || string(in.Data) != "\x00\x00\xe0\x40\x00\x00\x00\x41" {
				t.Errorf("%+v", in)
			}
		}
	}
}

func TestFilesThatDoNotFit(t *testing.T) {
	bucket := memblob.New(memblob.Config{})
	for name, text := range map[string]string{"none": "a,b\n", "bad": "a,b\nx,y\n", "empty": ""} {
		if _, err := bucket.Put(t.Context(), "acme/"+name, strings.NewReader(text), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ports, err := portsOf(served)
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]string{"none": "file_empty", "bad": "rows_invalid_file", "empty": "file_empty"} {
		_, err := files{bucket: bucket}.inspect(t.Context(), evaluation.Upload{Format: "csv", Columns: map[string][]string{"x": {"a", "b"}}}, ports, run.Source(bucket, job.Object{Key: "acme/" + name}))
		if fault.CodeOf(err) != code {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = files{bucket: bucket}.inspect(t.Context(), evaluation.Upload{Format: "csv", Columns: map[string][]string{"x": {"a", "b"}}}, ports, run.Source(bucket, job.Object{Key: "acme/bad"}))
	if d := fault.Of(err).Details; len(d) != 1 || d[0].Line != 2 || d[0].Message != `column a: "x" is no number` {
		t.Errorf("%+v", d)
	}
	if _, err := portsOf(&evaluation.Served{Inputs: served.Inputs}); fault.CodeOf(err) != "model_not_batchable" {
		t.Error(err)
	}
}
