package ingest

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// withFooter is a Parquet file that is nothing but a footer.
func withFooter(footer []byte) *bytes.Reader {
	file := append([]byte("PAR1"), footer...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(footer)))
	return bytes.NewReader(append(file, "PAR1"...))
}

// A footer that says it has more than it has is refused before anything is set aside for it.
func TestFootersTakeWhatTheyHave(t *testing.T) {
	long := func(head ...byte) []byte {
		return append(binary.AppendUvarint(head, 100_000_000), make([]byte, 20)...)
	}
	deep := append(bytes.Repeat([]byte{0x1c}, 1_000_000), make([]byte, 1_000_001)...)
	for name, footer := range map[string][]byte{
		"elements":          long(0x29, 0xfc),
		"elements of a set": long(0x2a, 0xfc),
		"texts":             long(0x29, 0xf8),
		"pairs":             long(0x2b),
		"a text":            long(0x68),
		"structs in depth":  deep,
		"many":              append(binary.AppendUvarint([]byte{0x29, 0xf1}, maxEntries+1), make([]byte, maxEntries+2)...),
		"no type":           {0x1d, 0},
		"no end":            {0x15, 2},
		"nothing":           nil,
	} {
		r := withFooter(footer)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := checkFooter(r, r.Size())
		runtime.ReadMemStats(&after)
		if fault.CodeOf(err) != codeDamaged || !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s: %d bytes were allocated", name, took)
		}
	}
	beyond := withFooter(nil)
	lying := make([]byte, beyond.Size())
	_, _ = beyond.ReadAt(lying, 0)
	binary.LittleEndian.PutUint32(lying[4:], 2<<30)
	if _, _, err := openFile(t.Context(), file(lying)); fault.CodeOf(err) != codeDamaged || !strings.Contains(err.Error(), "more than the file") {
		t.Errorf("beyond the file: %v", err) // for which two gigabytes would be set aside
	}
	r := withFooter(make([]byte, maxFooter+1))
	if err := checkFooter(r, r.Size()); fault.CodeOf(err) != codeDamaged {
		t.Errorf("too long: %v", err)
	}
}

// What the library writes passes, and none of it can be left out.
func TestFootersPass(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		meta := &format.FileMetaData{Version: 2, NumRows: rapid.Int64().Draw(rt, "rows"), CreatedBy: rapid.String().Draw(rt, "by")}
		for range rapid.IntRange(1, 40).Draw(rt, "columns") {
			meta.Schema = append(meta.Schema, format.SchemaElement{Name: rapid.String().Draw(rt, "name"), Type: thrift.New(format.Float)})
		}
		for range rapid.IntRange(0, 20).Draw(rt, "groups") {
			g := format.RowGroup{NumRows: 7, Columns: make([]format.ColumnChunk, len(meta.Schema))}
			for i := range g.Columns {
				g.Columns[i].MetaData.PathInSchema = []string{"a", rapid.String().Draw(rt, "path")}
				g.Columns[i].MetaData.Encoding = make([]format.Encoding, rapid.IntRange(0, 20).Draw(rt, "encodings"))
			}
			meta.RowGroups = append(meta.RowGroups, g)
		}
		footer, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
		if err != nil {
			rt.Fatal(err)
		}
		r := withFooter(footer)
		if err := checkFooter(r, r.Size()); err != nil {
			rt.Fatal(err)
		}
		r = withFooter(footer[:rapid.IntRange(0, len(footer)-1).Draw(rt, "left")])
		if err := checkFooter(r, r.Size()); fault.CodeOf(err) != codeDamaged {
			rt.Fatalf("cut off: %v", err)
		}
	})
}

// Schemas, and groups of rows, of which the library would note more than there is of them,
// are refused; what it reads is not.
func TestShapes(t *testing.T) {
	tree := func(elements int, children int32) []format.SchemaElement {
		all := make([]format.SchemaElement, elements)
		for i := range all {
			all[i].Name = "a"
			all[i].NumChildren = thrift.New(children)
		}
		return all
	}
	leaf := format.SchemaElement{Name: "x", Type: thrift.New(format.Float)}
	for name, c := range map[string]struct {
		meta format.FileMetaData
		ok   bool
	}{
		"a column":            {format.FileMetaData{Schema: append(tree(1, 1), leaf)}, true},
		"of a group":          {format.FileMetaData{Schema: append(tree(1, 1), leaf), RowGroups: []format.RowGroup{{Columns: make([]format.ColumnChunk, 1)}}}, true},
		"ten deep":            {format.FileMetaData{Schema: append(tree(10, 1), leaf)}, true},
		"deep":                {format.FileMetaData{Schema: tree(500_000, 1)}, false},
		"deep, with siblings": {format.FileMetaData{Schema: tree(1000, 1<<31-1)}, false},
		"groups without":      {format.FileMetaData{Schema: append(tree(1, 2), leaf, leaf), RowGroups: make([]format.RowGroup, 1000)}, false},
	} {
		c.meta.Version = 2
		footer, err := thrift.Marshal(new(thrift.CompactProtocol), &c.meta)
		if err != nil {
			t.Fatal(err)
		}
		r := withFooter(footer)
		switch err := checkFooter(r, r.Size()); {
		case c.ok && err != nil, !c.ok && fault.CodeOf(err) != codeDamaged:
			t.Errorf("%s: %v", name, err)
		}
	}
}
