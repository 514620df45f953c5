package ingest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"

	"sluice/internal/platform/fault"
)

// schemaOf is a stream of IPC with a schema of so many times the same field, which has
// so many times the same child, and so on.
func schemaOf(depth, times int, name string) []byte {
	b := flatbuffers.NewBuilder(0)
	text := b.CreateString(name)
	b.StartObject(0)
	empty := b.EndObject()
	vector := func(one flatbuffers.UOffsetT) flatbuffers.UOffsetT {
		b.StartVector(4, times, 4)
		for range times {
			b.PrependUOffsetT(one)
		}
		return b.EndVector(times)
	}
	below := flatbuffers.UOffsetT(0)
	for range depth {
		b.StartObject(6)
		b.PrependUOffsetTSlot(0, text, 0)
		b.PrependByteSlot(2, arrowStruct, 0)
		b.PrependUOffsetTSlot(3, empty, 0)
		b.PrependUOffsetTSlot(5, below, 0)
		below = vector(b.EndObject())
	}
	b.StartObject(4)
	b.PrependUOffsetTSlot(1, below, 0)
	schema := b.EndObject()
	b.StartObject(4)
	b.PrependInt16Slot(0, 4, 0)
	b.PrependByteSlot(1, arrowSchema, 0)
	b.PrependUOffsetTSlot(2, schema, 0)
	b.Finish(b.EndObject())
	head := b.FinishedBytes()
	out := binary.LittleEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, uint32(len(head)))
	return append(out, head...)
}

// A schema's fields and names count as often as they are there, not as they are said.
func TestArrowSharedFields(t *testing.T) {
	for name, data := range map[string][]byte{"fields": schemaOf(maxDepth, 10, "x"), "names": schemaOf(1, 10_000, strings.Repeat("n", 1<<20))} {
		if _, err := Inspect(t.Context(), file(data), File{}, &Spec{}, Options{}); fault.CodeOf(err) != "file_too_wide" {
			t.Errorf("%s of %d bytes: %v", name, len(data), err)
		}
	}
}

// recordOf is a stream of IPC with one record batch, or several of the same.
func recordOf(t testing.TB, times int, columns []string, all ...arrow.Array) []byte {
	t.Helper()
	fields := make([]arrow.Field, len(all))
	for i, a := range all {
		fields[i] = arrow.Field{Name: columns[i], Type: a.DataType(), Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	for range times {
		if err := w.Write(array.NewRecordBatch(schema, all, int64(all[0].Len()))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func textsOf(texts ...string) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues(texts, nil)
	return b.NewArray()
}

// A column that cannot be read is named at once, however deep it is and however many of
// its fields are views.
func TestArrowDeepTypes(t *testing.T) {
	deep := arrow.DataType(arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8}))
	for range maxDepth - 1 {
		deep = arrow.ListOf(deep)
	}
	views := make([]arrow.Field, 40)
	for i := range views {
		views[i] = arrow.Field{Name: fmt.Sprint(i), Type: arrow.BinaryTypes.StringView}
	}
	data := recordOf(t, 1, []string{"views", "deep"}, array.MakeArrayOfNull(memory.DefaultAllocator, arrow.StructOf(views...), 1), array.MakeArrayOfNull(memory.DefaultAllocator, deep, 1))
	_, err := Inspect(t.Context(), file(data), File{}, &Spec{Keep: []string{"deep"}}, Options{})
	if fault.CodeOf(err) != "column_type" || !strings.Contains(err.Error(), "list of list of") {
		t.Error(err)
	}
}

// chunks reads all of a file, and returns the rows of each chunk, checking what they hold.
func chunks(t testing.TB, data []byte, s *Spec, l Limit, o Options) (rows []int, codes map[string]int) {
	t.Helper()
	f, err := Inspect(t.Context(), file(data), File{}, s, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), file(data), f, s, f.First, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	codes = map[string]int{}
	for c := new(Chunk); ; {
		err := r.Read(c, l)
		if errors.Is(err, io.EOF) {
			return rows, codes
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.Errors {
			codes[e.Code]++
		}
		held := int64(0)
		for i := range c.Kept {
			held += int64(c.Kept[i].Bytes())
		}
		if held > 2*l.Bytes+int64(o.MaxRow) {
			t.Fatalf("a chunk of %d bytes holds %d", l.Bytes, held)
		}
		rows = append(rows, c.Rows)
	}
}

// A text that is in the file once, and in many rows, counts in each of them.
func TestSharedTextsCount(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	words := array.NewDictionaryBuilder(memory.DefaultAllocator, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}).(*array.BinaryDictionaryBuilder)
	for range 100 {
		_ = words.AppendString(long)
	}
	book := bookOf(t, func(f *excelize.File) {
		set(t, f, "Sheet1", "A1", "word")
		for i := range 100 {
			set(t, f, "Sheet1", fmt.Sprintf("A%d", i+2), long)
		}
	})
	s := &Spec{Keep: []string{"word"}}
	for name, data := range map[string][]byte{"arrow": recordOf(t, 1, []string{"word"}, words.NewArray()), "xlsx": book} {
		rows, codes := chunks(t, data, s, Limit{Rows: 1000, Bytes: 50_000}, Options{MaxRow: 20_000})
		if len(rows) < 17 || len(codes) > 0 {
			t.Errorf("%s: %v, %v", name, rows, codes)
		}
		if _, codes := chunks(t, data, s, Limit{Rows: 1000, Bytes: 50_000}, Options{MaxRow: 5_000}); codes[CodeTooLarge] != 100 {
			t.Errorf("%s: %v", name, codes)
		}
	}
}

// What a row takes is bounded over all of its columns.
func TestRowsOfManyColumns(t *testing.T) {
	names, all := []string{}, []arrow.Array{}
	for i := range 50 {
		names, all = append(names, fmt.Sprint("c", i)), append(all, textsOf(strings.Repeat("x", 1000), "y"))
	}
	data := recordOf(t, 1, names, all...)
	s := &Spec{Keep: names}
	f := inspect(t, data, File{}, s)
	r, err := Open(t.Context(), file(data), f, s, f.First, Options{MaxRow: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, held := new(Chunk), 0
	if err := r.Read(c, Limit{Rows: 1, Bytes: 1 << 20}); err != nil || len(c.Errors) != 1 || c.Errors[0].Code != CodeTooLarge {
		t.Fatalf("%+v, %v", c.Errors, err)
	}
	for _, column := range r.(*arrowReader).open {
		held += len(column.arena)
	}
	if held > 2000 {
		t.Errorf("%d bytes are held of a row of 2000", held)
	}
	if err := r.Read(c, Limit{Rows: 1, Bytes: 1 << 20}); err != nil || len(c.Errors) != 0 || string(c.Kept[49].Text(0)) != "y" {
		t.Errorf("%+v, %v", c, err)
	}
}

// Columns that can only be shown in part are refused, and texts that cannot cost their row.
func TestKeptColumns(t *testing.T) {
	type row struct {
		L []int32 `parquet:"l,list"`
		T string  `parquet:"t"`
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []row{{[]int32{1}, "a"}, {nil, "nul\x00"}, {nil, "\xff"}, {nil, "d"}}); err != nil {
		t.Fatal(err)
	}
	list := array.NewListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int32)
	for range 4 {
		list.AppendEmptyValue()
	}
	for name, data := range map[string][]byte{"parquet": b.Bytes(), "arrow": recordOf(t, 1, []string{"l", "t"}, list.NewArray(), textsOf("a", "nul\x00", "\xff", "d"))} {
		for _, s := range []*Spec{{ID: "l"}, {Keep: []string{"t", "l"}}} {
			if _, err := Inspect(t.Context(), file(data), File{}, s, Options{}); fault.CodeOf(err) != "column_type" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, codes := chunks(t, data, &Spec{Keep: []string{"t"}}, Limit{Rows: 10, Bytes: 1 << 20}, Options{}); codes[CodeEncoding] != 2 || len(codes) != 1 {
			t.Errorf("%s: %v", name, codes)
		}
		if _, codes := chunks(t, data, &Spec{ID: "t"}, Limit{Rows: 10, Bytes: 1 << 20}, Options{}); codes[CodeID] != 2 || len(codes) != 1 {
			t.Errorf("%s: %v", name, codes)
		}
	}
}

// archiveOf is an archive of so many empty files.
func archiveOf(t testing.TB, files int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := range files {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The list of an archive's files is bounded, whatever the archive says of it.
func TestLongArchives(t *testing.T) {
	liar := archiveOf(t, 70_000)
	end := bytes.LastIndex(liar, []byte("PK\x05\x06"))
	binary.LittleEndian.PutUint16(liar[end+8:], 70_000-1<<16)
	binary.LittleEndian.PutUint16(liar[end+10:], 70_000-1<<16)
	binary.LittleEndian.PutUint32(liar[end+12:], 1<<20) // but the offset stays that of an archive of 64 bits
	for name, data := range map[string][]byte{"one too many": archiveOf(t, maxBookParts+1), "64 bits": archiveOf(t, 70_000), "a liar": liar} {
		if _, err := Inspect(t.Context(), file(data), File{Format: XLSX}, two, Options{}); fault.CodeOf(err) != "file_inflates" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A row of a workbook that cannot be read costs itself only, wherever its size is found
// to be too much.
func TestBadSheetRows(t *testing.T) {
	const last = `<row r="9"><c t="str"><v>last</v></c><c><v>1</v></c><c><v>2</v></c></row></sheetData></worksheet>`
	long := func(n int) string { return `<row r="5"><c t="str"><v>` + strings.Repeat("x", n) + `</v></c></row>` }
	bad := map[string]struct{ row, code string }{
		"a far column":     {`<row r="5"><c r="XFE5"><v>1</v></c></row>`, CodeShape},
		"a cell before":    {`<row r="5"><c r="B5"/><c r="A5"><v>1</v></c></row>`, CodeShape},
		"prefixed":         {`<x:row r="5"><x:c t="str"><x:v>` + strings.Repeat("x", 3000) + "</x:v></x:c></x:row >", CodeTooLarge},
		"many cells":       {`<row r="5">` + strings.Repeat("<c/>", sheetColumns+1) + `</row>`, CodeTooLarge},
		"large and before": {`<row r="5"><c r="B5"/><c r="A5"><v>` + strings.Repeat("x", 3000) + `</v></c></row>`, CodeShape},
		"no boolean":       {`<row r="5"><c/><c t="b"><v>maybe</v></c></row>`, CodeType},
		"NUL":              {`<row r="5"><c t="str"><v>a_x0000_</v></c><c><v>1</v></c><c><v>2</v></c></row>`, CodeEncoding},
	}
	for n := 900; n < 1100; n++ { // so that the budget ends everywhere in the row's end tag
		bad[fmt.Sprint(n)] = struct{ row, code string }{long(n), ""}
	}
	for name, tt := range bad {
		data := bookWith(t, sheetPart, strings.NewReader(header+oneRow+tt.row+last))
		f := inspect(t, data, File{}, two)
		got, err := collect(t, file(data), f, two, Limit{Rows: 2, Bytes: 1 << 20}, false)
		if err != nil || len(got) != 3 || got[0].Code != "" || got[2].ID != "last" || got[2].Code != "" || got[1].Line != 5 || tt.code != "" && got[1].Code != tt.code {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Booleans are those of XML.
func TestSheetBooleans(t *testing.T) {
	data := bookWith(t, sheetPart, strings.NewReader(`<sheetData><row><c t="str"><v>y</v></c></row><row><c t="b"><v>true</v></c></row><row><c t="b"><v>1</v></c></row><row><c t="b"><v>false</v></c></row><row><c t="b"><v>0</v></c></row></sheetData>`))
	s := &Spec{Inputs: []Input{{Name: "y", Type: "BOOL", Width: 1, Columns: []string{"y"}}}}
	got, err := collect(t, file(data), inspect(t, data, File{}, s), s, Limit{Rows: 9, Bytes: 1 << 20}, false)
	if err != nil || len(got) != 4 || fmt.Sprint(got[0].Data, got[1].Data, got[2].Data, got[3].Data) != "[[1]] [[1]] [[0]] [[0]]" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A table may stand anywhere in its sheet.
func TestHeaderElsewhere(t *testing.T) {
	data := bookOf(t, func(f *excelize.File) { set(t, f, "Sheet1", "B2", "p", "C2", "q", "E2", "r", "B3", 1) })
	if f := inspect(t, data, File{}, &Spec{}); !*f.Dialect.Header || strings.Join(f.Columns, ",") != ",p,q,,r" {
		t.Errorf("%+v", f)
	}
}

// A column may have the name that files of other formats begin with.
func TestNamedLikeMagic(t *testing.T) {
	for _, text := range []string{"PAR1,x\n1,2\n", "ARROW1\n7\n", "PAR1", "PARE,x\n1,2\n", "PAR1größe\n1\n"} {
		for _, said := range []Format{"", CSV} {
			if f, err := Inspect(t.Context(), file([]byte(text)), File{Format: said}, &Spec{}, Options{}); err != nil || f.Format != CSV {
				t.Errorf("%q: %s, %v", text, f.Format, err)
			}
		}
	}
}

// What a workbook lists is bounded.
func TestManySheets(t *testing.T) {
	links := `<Relationships>` + strings.Repeat(`<Relationship Id="a" Type="x/worksheet" Target="worksheets/sheet1.xml"/>`, maxBookLinks+1)
	for part, text := range map[string]string{
		"xl/_rels/workbook.xml.rels": links,
		"xl/workbook.xml":            `<workbook><sheets>` + strings.Repeat(`<sheet name="s" id="rId1"/>`, maxBookSheets+1),
	} {
		data := bookWith(t, part, strings.NewReader(text))
		if _, err := Inspect(t.Context(), file(data), File{}, &Spec{}, Options{}); fault.CodeOf(err) != "file_inflates" {
			t.Errorf("%s: %v", part, err)
		}
	}
}
