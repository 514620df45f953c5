package ingest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// wide is a spec with a stripe of ten columns, and a file's columns with some beside it.
func wide(t Type) (*Spec, []string) {
	in := Input{Name: "x", Type: t, Width: 10}
	columns := []string{"id"}
	for i := range in.Width {
		in.Columns = append(in.Columns, fmt.Sprintf("x%d", i))
	}
	return &Spec{Inputs: []Input{in}, ID: "id", Keep: []string{"note"}}, append(append(columns, in.Columns...), "note")
}

// Rows are the same whether their numbers are read off the record or from its cells, and so are their errors.
func TestStripeLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, columns := wide(rapid.SampledFrom([]Type{"FP32", "FP64"}).Draw(rt, "type"))
		if rapid.Bool().Draw(rt, "at the end") {
			s.Keep, columns = nil, columns[:len(columns)-1]
		}
		var text strings.Builder
		text.WriteString(strings.Join(columns, ",") + "\n")
		odd := rapid.IntRange(0, 3).Draw(rt, "odd")
		for row := range rapid.IntRange(1, 20).Draw(rt, "rows") {
			cells := make([]string, len(columns))
			for i := range cells {
				cells[i] = rapid.SampledFrom([]string{"0.5", "-1", "3e2", "0.99609375", "12345678.25"}).Draw(rt, "cell")
				if rapid.IntRange(0, 40).Draw(rt, "is odd") < odd {
					cells[i] = rapid.SampledFrom([]string{"", " 1", "x", "1e99", "0x1p3", "1_0", "nan", "\"2\"", "\"a\nb\"", "16777217", "1.00000017881393432617", "é", "1,2", "\x00"}).Draw(rt, "odd cell")
				}
			}
			cells[0] = fmt.Sprintf("r%d", row)
			text.WriteString(strings.Join(cells, ",") + rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(rt, "end"))
		}
		data := file(text.String())
		f, err := Inspect(t.Context(), data, File{Format: CSV, Dialect: Dialect{Delimiter: ","}}, s, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		read := func(whole bool) (all []seen, at []Position) {
			r, err := Open(t.Context(), data, f, s, f.First, Options{})
			if err != nil {
				rt.Fatal(err)
			}
			defer r.Close()
			if records := r.(*textReader).rows.(*records); !whole {
				records.stripe = nil
			} else if records.stripe == nil {
				rt.Fatal("there is no stripe")
			}
			l := Limit{Rows: 3, Bytes: 1 << 20}
			for c := new(Chunk); ; at = append(at, r.Position()) {
				if err := r.Read(c, l); errors.Is(err, io.EOF) {
					return all, at
				} else if err != nil {
					return append(all, seen{Code: err.Error()}), at
				}
				all = append(all, rowsOf(t, c, s, l)...)
			}
		}
		got, at := read(true)
		want, ends := read(false)
		if diff := cmp.Diff(want, got) + cmp.Diff(ends, at); diff != "" {
			rt.Fatalf("%s\n%s", text.String(), diff)
		}
	})
}

func TestStripes(t *testing.T) {
	s, columns := wide("FP32")
	swapped := append([]string{}, columns...)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	twice := *s
	twice.Keep = []string{"x4"}
	for name, tt := range map[string]struct {
		f    File
		s    *Spec
		want bool
	}{
		"plain": {File{Columns: columns}, s, true}, "decimal commas": {File{Columns: columns, Dialect: Dialect{Decimal: ","}}, s, false},
		"another order": {File{Columns: swapped}, s, false}, "wanted twice": {File{Columns: columns}, &twice, false},
		"cut off": {File{Columns: columns[:8]}, s, false},
		"texts":   {File{Columns: columns}, &Spec{Inputs: []Input{{Type: Bytes, Width: 10, Columns: columns[1:11]}}}, false},
		"few":     {File{Columns: columns}, &Spec{Inputs: []Input{{Type: "FP32", Width: 2, Columns: columns[1:3]}}}, false},
	} {
		if got := newStripe(&tt.f, tt.s) != nil; got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A survey cuts a file at places between which a reader finds as many rows, with the same names.
func TestSurveyLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := make([]parquetRow, rapid.IntRange(1, 60).Draw(rt, "n"))
		csv, json := strings.Builder{}, strings.Builder{}
		csv.WriteString("id,a,b,list,note\n")
		for i := range rows {
			a, note := float32(i), rapid.SampledFrom([]string{"", "n", "two\nlines", strings.Repeat("long", 60)}).Draw(rt, "note")
			rows[i] = parquetRow{ID: fmt.Sprintf("r%d", i), A: &a, B: int64(i), Note: note, List: []float64{1, 2, 3}}
			fmt.Fprintf(&csv, "r%d,%d,%d,\"[1,2,3]\",%q\n\n", i, i, i, note)
			fmt.Fprintf(&json, `{"id":"r%d","a":%d,"b":%d,"list":[1,2,3],"note":%q}`+"\n", i, i, i, note)
		}
		spec := *ofParquet
		if rapid.Bool().Draw(rt, "no names") {
			spec.ID = ""
		}
		texts := map[Format]file{CSV: file(csv.String()), JSONL: file(json.String()), Parquet: parquetOf(t, rows, rapid.Int64Range(1, 20).Draw(rt, "group"))}
		for _, format := range []Format{CSV, JSONL, Parquet} {
			data := texts[format]
			f, err := Inspect(t.Context(), data, File{Format: format}, &spec, Options{})
			if err != nil {
				rt.Fatal(format, err)
			}
			survey, err := Survey(t.Context(), data, f, &spec, Options{})
			if err != nil {
				rt.Fatal(format, err)
			}
			all, err := Open(t.Context(), data, f, &spec, f.First, Options{})
			if err != nil {
				rt.Fatal(format, err)
			}
			c, full, n := new(Chunk), new(Chunk), 0
			for {
				at := survey.Position()
				if err := survey.Read(c, Limit{Rows: rapid.IntRange(1, 9).Draw(rt, "rows"), Bytes: 400}); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					rt.Fatal(format, err)
				}
				n += c.Rows
				if err := errors.Join(all.Forward(at), all.Read(full, Limit{Rows: c.Rows, Bytes: math.MaxInt64})); err != nil || full.Rows != c.Rows || all.Position().Row != survey.Position().Row {
					rt.Fatalf("%s: %d rows to %+v, want %d to %+v: %v", format, full.Rows, all.Position(), c.Rows, survey.Position(), err)
				}
				for i := range c.Rows {
					if spec.ID != "" && string(c.IDs.Text(i)) != string(full.IDs.Text(i)) {
						rt.Fatalf("%s: row %d is called %q, want %q", format, i, c.IDs.Text(i), full.IDs.Text(i))
					}
				}
			}
			if n != len(rows) {
				rt.Fatalf("%s: %d rows of %d", format, n, len(rows))
			}
			if err := errors.Join(survey.Close(), all.Close()); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
