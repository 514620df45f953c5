package ingest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// The names are those of Message.fbs and Schema.fbs of the Arrow format, and the
// numbers are the slots of their fields.

// fbTable is a table of a FlatBuffer. What is not there is zero.
type fbTable struct{ flatbuffers.Table }

func fbRoot(b []byte) fbTable {
	return fbTable{flatbuffers.Table{Bytes: b, Pos: flatbuffers.GetUOffsetT(b)}}
}

func (t *fbTable) int8(slot flatbuffers.VOffsetT) int8   { return t.GetInt8Slot(slot, 0) }
func (t *fbTable) int32(slot flatbuffers.VOffsetT) int32 { return t.GetInt32Slot(slot, 0) }
func (t *fbTable) int64(slot flatbuffers.VOffsetT) int64 { return t.GetInt64Slot(slot, 0) }
func (t *fbTable) bool(slot flatbuffers.VOffsetT) bool   { return t.GetBoolSlot(slot, false) }

func (t *fbTable) text(slot flatbuffers.VOffsetT) string {
	if o := flatbuffers.UOffsetT(t.Offset(slot)); o != 0 {
		return string(t.ByteVector(o + t.Pos))
	}
	return ""
}

// length is the bytes of a text.
func (t *fbTable) length(slot flatbuffers.VOffsetT) int {
	_, n := t.vector(slot)
	return n
}

func (t *fbTable) table(slot flatbuffers.VOffsetT) (sub fbTable, there bool) {
	o := flatbuffers.UOffsetT(t.Offset(slot))
	if o == 0 {
		return sub, false
	}
	return fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(o + t.Pos)}}, true
}

// vector returns where a vector begins, and its length.
func (t *fbTable) vector(slot flatbuffers.VOffsetT) (begin flatbuffers.UOffsetT, n int) {
	o := flatbuffers.UOffsetT(t.Offset(slot))
	if o == 0 {
		return 0, 0
	}
	return t.Vector(o), t.VectorLen(o)
}

// extension is the name of what a field's type stands for, where its metadata have such, and
// not too far behind.
func (t *fbTable) extension() string {
	const key, most = "ARROW:extension:name", 64
	begin, n := t.vector(16)
	for i := range min(n, most) {
		pair := fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(begin + flatbuffers.UOffsetT(4*i))}}
		if pair.length(4) == len(key) && pair.text(4) == key && pair.length(6) <= most {
			return pair.text(6)
		}
	}
	return ""
}

// pairs returns a vector of structs of two 64-bit numbers.
func (t *fbTable) pairs(slot flatbuffers.VOffsetT) (all [][2]int64) {
	begin, n := t.vector(slot)
	for i := range n {
		b := t.Bytes[begin+flatbuffers.UOffsetT(16*i):]
		all = append(all, [2]int64{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))})
	}
	return all
}

// Headers of messages.
const (
	arrowSchema     = 1
	arrowDictionary = 2
	arrowBatch      = 3
)

// arrowMessage is an encapsulated message of Arrow IPC, without its body.
type arrowMessage struct {
	version int16
	kind    int8
	header  fbTable
	body    int64 // where it begins
	end     int64 // of the message
}

// maxArrowHeader is how many bytes a message may have before its body: a schema of as
// many columns as a table may have is less.
const maxArrowHeader = 16 << 20

// readMessage reads the message at a place; io.EOF where there are no more.
func readMessage(raw io.ReaderAt, at, size int64) (m arrowMessage, err error) {
	r := bufio.NewReader(io.NewSectionReader(raw, at, size-at))
	var prefix [4]byte
	read := func() uint32 {
		if err == nil {
			_, err = io.ReadFull(r, prefix[:])
			at += 4
		}
		return binary.LittleEndian.Uint32(prefix[:])
	}
	n := read()
	if n == 0xffffffff && err == nil { // before version 0.15 it was not there
		if n = read(); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	switch {
	case err != nil:
		return m, err
	case n == 0:
		return m, io.EOF
	case n > maxArrowHeader:
		return m, fault.New(fault.Unprocessable, "the header of a message at byte %d has %d bytes", at, n).WithCode(codeDamaged)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return m, short(err)
	}
	t := fbRoot(b)
	m.version, m.kind, m.body = t.GetInt16Slot(4, 0), t.int8(6), at+int64(n)
	m.header, _ = t.table(8)
	length := t.int64(10)
	if length < 0 || length > size-m.body {
		return m, io.ErrUnexpectedEOF
	}
	m.end = m.body + length
	return m, nil
}

// Types of fields.
const (
	arrowNull      = 1
	arrowInt       = 2
	arrowFloat     = 3
	arrowBinary    = 4
	arrowText      = 5
	arrowBool      = 6
	arrowDecimal   = 7
	arrowDate      = 8
	arrowTime      = 9
	arrowTimestamp = 10
	arrowList      = 12
	arrowStruct    = 13
	arrowUnion     = 14
	arrowFixedBin  = 15
	arrowFixedList = 16
	arrowMap       = 17
	arrowLargeBin  = 19
	arrowLargeText = 20
	arrowLargeList = 21
	arrowRunEnd    = 22
	arrowBinView   = 23
	arrowTextView  = 24
	arrowListView  = 25
	arrowLargeView = 26
)

// arrowField is a field of a schema: of Arrow's type, and of what it is kept as.
type arrowField struct {
	name     string
	kind     int8
	bits     int // of a value, where all have as many
	unsigned bool
	meaning  meaning
	width    int32 // elements of a list of fixed size
	buffers  int   // its own, before those of its children
	children []arrowField

	dictionary *int64 // whose values the numbers stand for
	values     *arrowField
}

// maxDepth is how deep fields may be nested.
const maxDepth = 16

// fieldBudget is what the fields of a schema may take together: tables of a FlatBuffer may
// share what is in them, so that few bytes can say very many fields and names.
type fieldBudget struct {
	fields int
	names  int // bytes
}

func newFieldBudget() *fieldBudget {
	return &fieldBudget{fields: 4 * table.MaxColumns, names: maxArrowHeader}
}

// errFields is said of schemas beyond the budget.
var errFields error = fault.New(fault.Unprocessable, "the file's columns have more than %d fields in all, or names of more than %d bytes: leave some out", 4*table.MaxColumns, maxArrowHeader).WithCode("file_too_wide")

func (b *fieldBudget) field(t *fbTable, depth int) (f arrowField, err error) {
	if depth > maxDepth {
		return f, fault.New(fault.Unprocessable, "the fields are nested deeper than %d", maxDepth).WithCode("column_type")
	}
	b.fields--
	if b.names -= t.length(4); b.fields < 0 || b.names < 0 {
		return f, errFields
	}
	f.name, f.kind = t.text(4), t.int8(8)
	of, _ := t.table(10)
	f.buffers = 2
	switch f.kind {
	case arrowInt:
		f.bits, f.unsigned = int(of.int32(4)), !of.bool(6)
	case arrowFloat:
		f.bits = 16 << of.GetInt16Slot(4, 0)
	case arrowNull, arrowRunEnd:
		f.buffers = 0
	case arrowBool:
		f.bits = 1
	case arrowDecimal, arrowDate, arrowTime, arrowTimestamp:
		f.bits, f.meaning = arrowMeaning(f.kind, &of)
	case arrowFixedBin:
		if of.int32(4) == 16 && t.extension() == "arrow.uuid" {
			f.bits, f.meaning = 128, identifier
		}
	case arrowBinary, arrowText, arrowLargeBin, arrowLargeText, arrowListView, arrowLargeView:
		f.buffers = 3
	case arrowStruct:
		f.buffers = 1
	case arrowFixedList:
		f.buffers, f.width = 1, of.int32(4)
	case arrowUnion:
		if f.buffers = 1; of.GetInt16Slot(4, 0) == 1 {
			f.buffers = 2
		}
	}
	begin, n := t.vector(14)
	for i := range n {
		child := fbTable{flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(begin + flatbuffers.UOffsetT(4*i))}}
		c, err := b.field(&child, depth+1)
		if err != nil {
			return f, err
		}
		f.children = append(f.children, c)
	}
	if d, is := t.table(12); is {
		id := d.int64(4)
		values := f
		f = arrowField{name: f.name, kind: arrowInt, bits: 32, buffers: 2, dictionary: &id, values: &values}
		if of, is := d.table(6); is {
			f.bits, f.unsigned = int(of.int32(4)), !of.bool(6)
		}
	}
	return f, nil
}

// readable says whether the values of a field can be read: numbers, texts, and, where
// lists may be, lists of them.
func (f *arrowField) readable(lists bool) bool {
	switch f.kind {
	case arrowInt:
		return (f.bits == 8 || f.bits == 16 || f.bits == 32 || f.bits == 64) && (f.values == nil || f.values.values == nil && f.values.readable(false))
	case arrowFloat:
		return f.bits == 16 || f.bits == 32 || f.bits == 64
	case arrowDecimal, arrowDate, arrowTime, arrowTimestamp, arrowFixedBin:
		return f.meaning.is()
	case arrowNull, arrowBool, arrowText, arrowLargeText, arrowBinary, arrowLargeBin, arrowBinView, arrowTextView:
		return true
	case arrowList, arrowLargeList, arrowFixedList:
		return lists && len(f.children) == 1 && f.children[0].kind != arrowNull && (f.width > 0 || f.kind != arrowFixedList) && f.children[0].readable(true)
	}
	return false
}

// fixed says whether each value of a field has as many bytes.
func (f *arrowField) fixed() bool { return f.bits >= 8 }

// views says whether the texts of a field are kept as views.
func (f *arrowField) views() bool { return f.kind == arrowBinView || f.kind == arrowTextView }

// lists says whether the rows of a field are lists.
func (f *arrowField) lists() bool {
	return f.kind == arrowList || f.kind == arrowLargeList || f.kind == arrowFixedList
}

// leaf is what the values of a field are, or those of its lists.
func (f *arrowField) leaf() *arrowField {
	switch {
	case f.values != nil:
		return f.values
	case len(f.children) == 1:
		return f.children[0].leaf()
	}
	return f
}

// is says whether a field is of a type, or has such in it.
func (f *arrowField) is(kind int8) bool {
	return f.kind == kind || slices.ContainsFunc(f.children, func(c arrowField) bool { return c.is(kind) })
}

// of says what a field is, as its writer knows it.
func (f *arrowField) of() string {
	if f.values != nil {
		return "a dictionary of " + f.values.of()
	}
	if f.lists() {
		return "list of " + f.child()
	}
	names := map[int8]string{
		arrowDecimal: "decimal", arrowDate: "date", arrowTime: "time", arrowTimestamp: "timestamp", 11: "interval", arrowStruct: "struct", arrowUnion: "union", arrowMap: "map",
		arrowFixedBin: "fixed_size_binary", 18: "duration", arrowRunEnd: "run_end_encoded", arrowBinView: "binary_view", arrowTextView: "utf8_view", arrowListView: "list_view", arrowLargeView: "large_list_view",
	}
	if name, is := names[f.kind]; is {
		return name
	}
	return "unknown"
}

func (f *arrowField) child() string {
	if len(f.children) == 1 {
		return f.children[0].of()
	}
	return "nothing"
}
