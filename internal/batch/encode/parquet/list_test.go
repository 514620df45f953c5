package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Lists of more values than are handed over at once are whole, and rows stay beside each other.
func TestLongLists(t *testing.T) {
	const rows, long = 20, 3*stepValues/2 + 1
	schema := table.Schema{{Name: "n", Type: table.Int}, {Name: "list", Type: table.JSON, Items: table.Int}}
	c := table.NewChunk(schema)
	for n := range rows {
		c.Column(0).AppendInt(int64(n))
		c.Column(1).AppendString("[" + strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%d, ", n), long), ", ") + "]")
	}
	var out bytes.Buffer
	w := NewWriter(&out, schema, Options{groupRows: 7})
	if err := errors.Join(w.Write(c), w.Close()); err != nil {
		t.Fatal(err)
	}
	type row struct {
		N    int64   `parquet:"n,optional"`
		List []int64 `parquet:"list,list"`
	}
	got, err := parquet.Read[row](bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || len(got) != rows {
		t.Fatal(len(got), err)
	}
	for n, r := range got {
		if r.N != int64(n) || len(r.List) != long || r.List[0] != int64(n) || r.List[long-1] != int64(n) {
			t.Fatalf("row %d: %d, %d items", n, r.N, len(r.List))
		}
	}
}

func TestWhatIsNoList(t *testing.T) {
	for _, tt := range []struct {
		cell  string
		items table.Type
	}{
		{"1", table.Int}, {"[1", table.Int}, {"1]", table.Int}, {"", table.Int}, {"[1.5]", table.Int}, {"[[1]]", table.Int}, {"[1,]", table.Int},
		{"[1e39]", table.Float32}, {`["1"]`, table.Float}, {"[1]", table.Bool}, {"[1]", table.String}, {`{"a":1}`, table.String},
	} {
		schema := table.Schema{{Name: "list", Type: table.JSON, Items: tt.items}}
		c := table.NewChunk(schema)
		c.Column(0).AppendString(tt.cell)
		w := NewWriter(&bytes.Buffer{}, schema, Options{})
		if err := w.Write(c); !fault.Is(err, fault.Internal) {
			t.Errorf("%s as a list of %s: %v", tt.cell, tt.items, err)
		}
	}
}
