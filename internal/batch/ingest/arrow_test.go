package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// arrowSchemaOf has columns of all kinds that are read, and some between them that are not.
var arrowSchemaOf = arrow.NewSchema([]arrow.Field{
	{Name: "deep", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "y", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8)})},
	{Name: "id", Type: arrow.BinaryTypes.LargeString},
	{Name: "view", Type: arrow.BinaryTypes.StringView, Nullable: true},
	{Name: "a", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "when", Type: arrow.FixedWidthTypes.Timestamp_us},
	{Name: "n", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
	{Name: "word", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "list", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64), Nullable: true},
	{Name: "pair", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int16), Nullable: true},
	{Name: "yes", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "none", Type: arrow.Null},
}, nil)

var ofArrow = &Spec{Inputs: []Input{
	{Name: "a", Type: "FP32", Width: 1, Columns: []string{"a"}}, {Name: "l", Type: "FP64", Width: 3, Columns: []string{"list"}},
	{Name: "p", Type: "INT32", Width: 2, Columns: []string{"pair"}}, {Name: "y", Type: "BOOL", Width: 1, Columns: []string{"yes"}},
	{Name: "w", Type: Bytes, Width: 1, Columns: []string{"word"}},
}, ID: "id", Keep: []string{"n", "none"}}

type arrowRow struct {
	a    *float32
	n    *uint64
	word *string
	list []float64 // nil: null
	pair []int16
	yes  *bool
}

func drawArrow(t *rapid.T) (r arrowRow) {
	some := func(name string) bool { return rapid.IntRange(0, 9).Draw(t, name) > 0 }
	if some("a?") {
		r.a = new(rapid.Float32().Draw(t, "a"))
	}
	if some("n?") {
		r.n = new(rapid.Uint64().Draw(t, "n"))
	}
	if some("word?") {
		r.word = new(rapid.SampledFrom([]string{"", "x", "größe", strings.Repeat("y", 50)}).Draw(t, "word"))
	}
	if some("list?") {
		r.list = rapid.SliceOfN(rapid.Float64(), 3, 3).Draw(t, "list")
		if !some("whole") {
			r.list = r.list[:rapid.IntRange(0, 2).Draw(t, "length")]
		}
	}
	if some("pair?") {
		r.pair = rapid.SliceOfN(rapid.Int16(), 2, 2).Draw(t, "pair")
	}
	if some("yes?") {
		r.yes = new(rapid.Bool().Draw(t, "yes"))
	}
	return r
}

// put adds a value, or null for nil.
func put[T any](null func(), add func(T), v *T) {
	if v == nil {
		null()
		return
	}
	add(*v)
}

// arrowOf writes rows as IPC, in record batches of so many.
func arrowOf(t testing.TB, rows []arrowRow, batch int, file bool, options ...ipc.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	options = append(options, ipc.WithSchema(arrowSchemaOf), ipc.WithDictionaryDeltas(!file))
	var w interface {
		Write(arrow.RecordBatch) error
		Close() error
	} = ipc.NewWriter(&out, options...)
	if file {
		var err error
		if w, err = ipc.NewFileWriter(&out, options...); err != nil {
			t.Fatal(err)
		}
	}
	words := array.NewDictionaryBuilder(memory.DefaultAllocator, arrowSchemaOf.Field(6).Type.(*arrow.DictionaryType)).(*array.BinaryDictionaryBuilder)
	for first := 0; first < len(rows); first += batch {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrowSchemaOf)
		part := rows[first:min(first+batch, len(rows))]
		for i, r := range part {
			deep := b.Field(0).(*array.StructBuilder)
			deep.Append(true)
			deep.FieldBuilder(0).(*array.StringBuilder).Append("deep")
			list := deep.FieldBuilder(1).(*array.ListBuilder)
			list.Append(true)
			list.ValueBuilder().(*array.Int8Builder).AppendValues([]int8{1, 2, 3}, nil)
			b.Field(1).(*array.LargeStringBuilder).Append(fmt.Sprintf("r%d", first+i))
			b.Field(2).(*array.StringViewBuilder).Append(strings.Repeat("view", i%9))
			put(b.Field(3).AppendNull, b.Field(3).(*array.Float32Builder).Append, r.a)
			b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
			put(b.Field(5).AppendNull, b.Field(5).(*array.Uint64Builder).Append, r.n)
			put(words.AppendNull, func(s string) { _ = words.AppendString(s) }, r.word)
			l := b.Field(7).(*array.ListBuilder)
			if l.Append(r.list != nil); r.list != nil {
				l.ValueBuilder().(*array.Float64Builder).AppendValues(r.list, nil)
			}
			p := b.Field(8).(*array.FixedSizeListBuilder)
			if p.Append(r.pair != nil); r.pair != nil {
				p.ValueBuilder().(*array.Int16Builder).AppendValues(r.pair, nil)
			} else {
				p.ValueBuilder().(*array.Int16Builder).AppendValues([]int16{0, 0}, nil)
			}
			put(b.Field(9).AppendNull, b.Field(9).(*array.BooleanBuilder).Append, r.yes)
			b.Field(10).AppendNull()
			b.Field(6).AppendNull()
		}
		record := b.NewRecordBatch()
		all := append([]arrow.Array{}, record.Columns()...)
		all[6] = words.NewArray()
		if err := w.Write(array.NewRecordBatch(arrowSchemaOf, all, int64(len(part)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// data are the tensors that a row makes; nil where it is a bad one.
func (r *arrowRow) data() [][]byte {
	if r.a == nil || len(r.list) != 3 || r.pair == nil || r.yes == nil || r.word == nil {
		return nil
	}
	list := []byte{}
	for _, x := range r.list {
		list = binary.LittleEndian.AppendUint64(list, math.Float64bits(x))
	}
	p := binary.LittleEndian.AppendUint32(nil, uint32(int32(r.pair[0])))
	p = binary.LittleEndian.AppendUint32(p, uint32(int32(r.pair[1])))
	yes := []byte{0}
	if *r.yes {
		yes[0] = 1
	}
	return [][]byte{binary.LittleEndian.AppendUint32(nil, math.Float32bits(*r.a)), list, p, yes, append(binary.LittleEndian.AppendUint32(nil, uint32(len(*r.word))), *r.word...)}
}

var codecs = map[string][]ipc.Option{"": nil, "lz4": {ipc.WithLZ4()}, "zstd": {ipc.WithZstd()}}

// As a file or a stream, however it is compressed and cut into batches, and wherever a
// reader begins: rows are what was written, and bad ones cost no others.
func TestArrowLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(drawArrow), 1, 40).Draw(rt, "rows")
		whole, codec := rapid.Bool().Draw(rt, "file"), rapid.SampledFrom([]string{"", "lz4", "zstd"}).Draw(rt, "codec")
		batch := rapid.IntRange(1, 20).Draw(rt, "batch")
		if whole { // which cannot have dictionaries that change
			batch = len(rows)
		}
		data := arrowOf(t, rows, batch, whole, codecs[codec]...)
		f, err := Inspect(t.Context(), file(data), File{}, ofArrow, Options{})
		if err != nil || f.Format != Arrow {
			rt.Fatal(f.Format, err)
		}
		got := readAll(t, rt, data, f, ofArrow)
		if len(got) != len(rows) {
			rt.Fatalf("%d rows of %d", len(got), len(rows))
		}
		for i, r := range rows {
			n := ""
			if r.n != nil {
				n = fmt.Sprint(*r.n)
			}
			if g := got[i]; g.ID != fmt.Sprintf("r%d", i) || g.Kept[0] != n || (g.Code == "") != (r.data() != nil) || fmt.Sprint(g.Data) != fmt.Sprint(r.data()) {
				rt.Fatalf("row %d: %+v, want % x", i, g, r.data())
			}
		}
	})
}

// readAll reads a columnar file or a workbook, with another reader now and then.
func readAll(t testing.TB, rt *rapid.T, data []byte, f File, s *Spec) (all []seen) {
	at := f.First
	r, err := Open(rt.Context(), file(data), f, s, at, Options{})
	if err != nil {
		rt.Fatal(err)
	}
	defer func() { r.Close() }()
	for c := new(Chunk); ; {
		if rapid.Bool().Draw(rt, "reopened") {
			r.Close()
			if r, err = Open(rt.Context(), file(data), f, s, at, Options{}); err != nil {
				rt.Fatal(err)
			}
		}
		err := r.Read(c, Limit{Rows: rapid.IntRange(1, 9).Draw(rt, "rows"), Bytes: 1 << 20})
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			rt.Fatal(err)
		}
		at = r.Position()
		if len(c.Lines) == 0 {
			c.Lines = make([]int64, c.Rows)
		}
		all = append(all, rowsOf(t, c, s, Limit{Rows: 9})...)
	}
}

// Columns that cannot be read are named, with their types.
func TestArrowTypes(t *testing.T) {
	data := arrowOf(t, []arrowRow{{}}, 1, true)
	for column, of := range map[string]string{"deep": "struct", "list": "lists", "when": "timestamp"} {
		s := &Spec{Keep: []string{column}}
		if column == "when" { // which can be kept
			s = &Spec{Inputs: []Input{{Name: "x", Type: "INT64", Width: 1, Columns: []string{column}}}}
		}
		_, err := Inspect(t.Context(), file(data), File{Format: Arrow}, s, Options{})
		if fault.CodeOf(err) != "column_type" || !strings.Contains(err.Error(), column) || !strings.Contains(err.Error(), of) {
			t.Errorf("%s: %v", column, err)
		}
	}
	if _, err := Inspect(t.Context(), file(data), File{Format: Parquet}, &Spec{}, Options{}); fault.CodeOf(err) != "format_mismatch" {
		t.Error(err)
	}
	if _, err := Inspect(t.Context(), file(arrowOf(t, nil, 1, true)), File{Format: Arrow}, &Spec{}, Options{}); fault.CodeOf(err) != "file_empty" {
		t.Error(err)
	}
}

// A cell that is too large costs its row, and is not held.
func TestArrowHugeCell(t *testing.T) {
	word := strings.Repeat("z", 1<<16)
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"a", word, "b"}, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := errors.Join(w.Write(b.NewRecordBatch()), w.Close()); err != nil {
		t.Fatal(err)
	}
	s := &Spec{Inputs: []Input{{Name: "s", Type: Bytes, Width: 1, Columns: []string{"s"}}}}
	f := inspect(t, out.Bytes(), File{}, s)
	r, err := Open(t.Context(), file(out.Bytes()), f, s, f.First, Options{MaxRow: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := new(Chunk)
	if err := r.Read(c, Limit{Rows: 10, Bytes: 1 << 20}); err != nil || c.Rows != 3 || len(c.Errors) != 1 || c.Errors[0].Code != CodeTooLarge || string(c.Tensors[0].Slice(1, 2)) != "\x01\x00\x00\x00b" {
		t.Errorf("%+v, %v", c.Errors, err)
	}
}

// readBroken reads what may be damaged, checks that rows are counted right, and returns how
// many were read.
func readBroken(t testing.TB, data []byte, format Format, s *Spec) (rows int) {
	t.Helper()
	opened, err := Inspect(t.Context(), file(data), File{Format: format}, s, Options{})
	if err != nil {
		if k := fault.Of(err).Kind; k != fault.Unprocessable {
			t.Fatalf("%v is %v", err, k)
		}
		return 0
	}
	r, err := Open(t.Context(), file(data), opened, s, opened.First, Options{MaxRow: 1 << 12})
	if err != nil {
		return 0
	}
	defer r.Close()
	for c := new(Chunk); r.Read(c, Limit{Rows: 100, Bytes: 1 << 20}) == nil && r.Position().Row < 1000; {
		if len(c.Good)+len(c.Errors) != c.Rows {
			t.Fatalf("%d good and %d bad of %d rows", len(c.Good), len(c.Errors), c.Rows)
		}
		rows += c.Rows
	}
	return rows
}

func goodArrow(t testing.TB, whole bool, codec string) []byte {
	t.Helper()
	r := arrowRow{a: new(float32(1)), n: new(uint64(2)), word: new("w"), list: []float64{1, 2, 3}, pair: []int16{1, 2}, yes: new(true)}
	return arrowOf(t, []arrowRow{r, {}, r}, 3, whole, codecs[codec]...)
}

// Whatever byte of a file is wrong: it is an error or other rows, and no panic. Many bytes of
// these are of values, so that rows are read also where one is wrong.
func TestDamagedArrow(t *testing.T) {
	for _, codec := range []string{"", "lz4", "zstd"} {
		good, read := goodArrow(t, codec != "", codec), 0
		for i := 0; i < len(good); i += 7 {
			data := bytes.Clone(good)
			data[i] ^= 0xff
			read += min(readBroken(t, data, Arrow, ofArrow), 1)
			readBroken(t, good[:i], Arrow, ofArrow)
		}
		if all := len(good) / 7; read < all/5 {
			t.Errorf("%q: rows of %d files were read, of %d", codec, read, all)
		}
	}
}

func FuzzArrow(f *testing.F) {
	for codec := range codecs {
		f.Add(goodArrow(f, codec == "", codec))
	}
	f.Fuzz(func(t *testing.T, data []byte) { readBroken(t, data, Arrow, ofArrow) })
}
