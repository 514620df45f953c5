package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/tabletest"
	"sluice/internal/platform/fault"
)

// The library's row reader reads back what was written, in the columns' order
// and with their types, over row groups of any size.
func TestReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schema := tabletest.Schema(t)
		o := Options{
			Compression: rapid.SampledFrom([]string{"", "zstd", "snappy", "gzip", "none"}).Draw(t, "compression"),
			groupRows:   rapid.IntRange(1, 20).Draw(t, "group"),
			Metadata:    map[string]string{"dataset": "test"},
		}
		c := table.NewChunk(schema)
		var out bytes.Buffer
		w := NewWriter(&out, schema, o)
		var want [][]any
		for range 3 {
			tabletest.Fill(t, c, 30)
			want = append(want, tabletest.Rows(c)...)
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for i, field := range f.Schema().Fields() {
			if field.Name() != schema[i].Name {
				t.Fatalf("column %d is %q, want %q", i, field.Name(), schema[i].Name)
			}
		}
		if v, _ := f.Lookup("dataset"); v != "test" {
			t.Fatalf("metadata %q", v)
		}
		if diff := cmp.Diff(want, read(t, f, schema), equalFloats); diff != "" {
			t.Fatal(diff)
		}
	})
}

var equalFloats = cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })

func read(t *rapid.T, f *parquet.File, schema table.Schema) (rows [][]any) {
	t.Helper()
	for _, g := range f.RowGroups() {
		r := g.Rows()
		buf := make([]parquet.Row, 7)
		for {
			n, err := r.ReadRows(buf)
			for _, row := range buf[:n] {
				cells := make([]any, len(schema))
				for i, values := range row.Range {
					if schema[i].Items != 0 {
						cells[i] = listIn(values, schema[i].Items)
					} else {
						cells[i] = value(values[0], schema[i].Type)
					}
				}
				rows = append(rows, cells)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
	}
	return rows
}

// listIn is a list as tabletest.Cell has it.
func listIn(values []parquet.Value, items table.Type) any {
	if values[0].DefinitionLevel() == noList {
		return nil
	}
	list := []any{}
	for _, v := range values {
		if v.DefinitionLevel() > emptyList {
			list = append(list, value(v, items))
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return json.RawMessage(b)
}

func value(v parquet.Value, typ table.Type) any {
	if v.IsNull() {
		return nil
	}
	switch typ {
	case table.String:
		return string(v.ByteArray())
	case table.JSON:
		return json.RawMessage(bytes.Clone(v.ByteArray()))
	case table.Float:
		return v.Double()
	case table.Float32:
		return v.Float()
	case table.Bool:
		return v.Boolean()
	case table.Time:
		return time.UnixMicro(v.Int64()).UTC()
	default:
		return v.Int64()
	}
}

// Names that no Go field could have are fine.
func TestAnyName(t *testing.T) {
	schema := table.Schema{{Name: "a,b", Type: table.Int}, {Name: "a.b", Type: table.Int}, {Name: "", Type: table.Int}, {Name: "A", Type: table.Int}, {Name: "a", Type: table.Int}}
	c := table.NewChunk(schema)
	for i := range schema {
		c.Column(i).AppendInt(int64(i))
	}
	var out bytes.Buffer
	w := NewWriter(&out, schema, Options{})
	if err := errors.Join(w.Write(c), w.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || f.NumRows() != 1 || len(f.Schema().Fields()) != 5 {
		t.Fatal(f, err)
	}
}

func TestTheSameRowsAreTheSameBytes(t *testing.T) {
	var files [2]bytes.Buffer
	for i := range files {
		c := table.NewChunk(tabletest.Plain)
		w := NewWriter(&files[i], tabletest.Plain, Options{groupRows: 1000})
		for n := 0; n < 6000; n += 3000 {
			tabletest.FillPlain(c, n, 3000)
			if err := w.Write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0].Bytes(), files[1].Bytes()) {
		t.Error("two files of the same rows differ")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestFailuresStay(t *testing.T) {
	c := table.NewChunk(tabletest.Plain)
	tabletest.FillPlain(c, 0, 5000)
	w := NewWriter(full{}, tabletest.Plain, Options{groupRows: 1000})
	for range 3 {
		if err := w.Write(c); err == nil {
			t.Error("written to a full disk")
		}
	}
	if w.Close() == nil {
		t.Error("closes as if nothing were wrong")
	}
	if err := (Options{Compression: "rar"}).Check(); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
