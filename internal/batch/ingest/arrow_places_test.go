package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/google/uuid"

	"sluice/internal/platform/fault"
)

// lying is an Arrow file whose footer names, at each eight bytes, messages that all end with the same record batch of one
// row: each is as good as any, and as large as all of the file that is behind it.
func lying(t *testing.T, messages int, order func(blocks []int64)) []byte {
	t.Helper()
	b := flatbuffers.NewBuilder(0)
	b.StartObject(4)
	b.PrependInt64Slot(0, 1, 0)
	batch := b.EndObject()
	b.StartObject(4)
	b.PrependInt16Slot(0, 4, 0)
	b.PrependByteSlot(1, arrowBatch, 0)
	b.PrependUOffsetTSlot(2, batch, 0)
	b.Finish(b.EndObject())
	message := b.FinishedBytes()

	out, blocks := []byte(arrowMagic+"\x00\x00"), make([]int64, messages)
	begin := len(out) + 8*messages
	for i := range blocks {
		blocks[i] = int64(len(out))
		from := len(out) + 4
		out = binary.LittleEndian.AppendUint32(out, uint32(begin+len(message)-from))
		out = binary.LittleEndian.AppendUint32(out, uint32(begin-from)+flatbuffers.GetUint32(message))
	}
	out = append(out, message...)
	order(blocks)

	b = flatbuffers.NewBuilder(0)
	name := b.CreateString("x")
	b.StartObject(0)
	null := b.EndObject()
	b.StartObject(6)
	b.PrependUOffsetTSlot(0, name, 0)
	b.PrependByteSlot(2, arrowNull, 0)
	b.PrependUOffsetTSlot(3, null, 0)
	field := b.EndObject()
	b.StartVector(4, 1, 4)
	b.PrependUOffsetT(field)
	fields := b.EndVector(1)
	b.StartObject(4)
	b.PrependUOffsetTSlot(1, fields, 0)
	schema := b.EndObject()
	b.StartVector(24, messages, 8)
	for _, at := range slices.Backward(blocks) {
		b.PrependInt64(0)
		b.PrependInt64(0)
		b.PrependInt64(at)
	}
	batches := b.EndVector(messages)
	b.StartObject(5)
	b.PrependInt16Slot(0, 4, 0)
	b.PrependUOffsetTSlot(1, schema, 0)
	b.PrependUOffsetTSlot(3, batches, 0)
	b.Finish(b.EndObject())
	out = append(out, b.FinishedBytes()...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(b.FinishedBytes()))), arrowMagic...)
}

// A footer that names the same bytes in many ways takes no more time and memory than the file has bytes, and makes no rows of them.
func TestArrowMessagesOverlap(t *testing.T) {
	for name, order := range map[string]func([]int64){"onward": func([]int64) {}, "backward": slices.Reverse[[]int64]} {
		data := lying(t, 20_000, order)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rows := readBroken(t, data, Arrow, &Spec{Keep: []string{"x"}})
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; rows > 2 || taken > 32<<20 {
			t.Errorf("%s: %d rows, %d bytes taken for a file of %d", name, rows, taken, len(data))
		}
	}
	one := lying(t, 1, func([]int64) {})
	if rows := readBroken(t, one, Arrow, &Spec{Keep: []string{"x"}}); rows != 1 {
		t.Errorf("%d rows of a file with one", rows)
	}
}

// counted counts the bytes that are read.
type counted struct {
	io.ReaderAt
	bytes int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.bytes += n
	return n, err
}

// Views that point to and fro, as those of rows that were sorted or drawn, have a buffer read once, and one that there
// is no room for not more than its texts.
func TestViewsToAndFro(t *testing.T) {
	const each, texts = 100, 5000
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, each*texts)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for name, taken := range map[string]int64{"room": 0, "no room": arrowWindow} {
		raw := &counted{ReaderAt: bytes.NewReader(data)}
		o := &arrowOpener{raw: raw, length: int64(len(data)), codec: -1, ahead: 256 << 10, window: taken, buffers: [][2]int64{{0, int64(len(data)) / 2}, {int64(len(data)) / 2, int64(len(data)) / 2}}}
		p := &arrowPool{o: o, count: 2}
		into := make([]byte, each)
		for _, i := range random.Perm(texts) {
			buffer, at := i/(texts/2), i%(texts/2)*each
			if err := p.read(into, int64(buffer), int64(at)); err != nil || !bytes.Equal(into, data[i*each:(i+1)*each]) {
				t.Fatalf("%s: text %d: %v", name, i, err)
			}
		}
		if raw.bytes > 6*len(data) {
			t.Errorf("%s: %d bytes read of %d", name, raw.bytes, len(data))
		}
		if err := p.read(into, 1, int64(len(data)/2-each+1)); err == nil {
			t.Errorf("%s: a text behind its buffer", name)
		}
	}
}

// A file has no order by which a dictionary could replace another for the batches behind it.
func TestArrowDictionaryReplaced(t *testing.T) {
	words := func(all ...string) arrow.Array {
		b := array.NewDictionaryBuilder(memory.DefaultAllocator, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}).(*array.BinaryDictionaryBuilder)
		for _, w := range all {
			if err := b.AppendString(w); err != nil {
				t.Fatal(err)
			}
		}
		return b.NewArray()
	}
	one, two := recordOf(t, 1, []string{"w"}, words("a", "b")), recordOf(t, 1, []string{"w"}, words("c", "d"))
	end := len(one) - 8 // of its record batch
	schema, err := readMessage(bytes.NewReader(one), 0, int64(len(one)))
	if err != nil {
		t.Fatal(err)
	}
	stream := slices.Concat(one[:end], two[schema.end:])
	s := &Spec{Keep: []string{"w"}}
	kept := func(data []byte) (all []string) {
		for _, g := range readMeant(t, data, Arrow, s) {
			all = append(all, g.Kept[0]+g.Code)
		}
		return all
	}
	if got := kept(stream); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("a stream: %q", got)
	}
	if got := kept(append([]byte(arrowMagic+"\x00\x00"), stream...)); !slices.Equal(got, []string{"a", "b", CodeRest}) {
		t.Errorf("a file: %q", got)
	}
}

// UUIDs are bytes of a fixed length which a field's metadata name.
func TestArrowUUID(t *testing.T) {
	b := array.NewFixedSizeBinaryBuilder(memory.DefaultAllocator, &arrow.FixedSizeBinaryType{ByteWidth: 16})
	ids := []uuid.UUID{{0: 0xf0, 15: 1}, {}}
	for _, id := range ids {
		b.Append(id[:])
	}
	b.AppendNull()
	bytesOf := b.NewArray()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "u", Type: bytesOf.DataType(), Nullable: true, Metadata: arrow.NewMetadata([]string{"k", "ARROW:extension:name"}, []string{"v", "arrow.uuid"})},
		{Name: "plain", Type: bytesOf.DataType(), Nullable: true},
	}, nil)
	record := array.NewRecordBatch(schema, []arrow.Array{bytesOf, bytesOf}, 3)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := errors.Join(w.Write(record), w.Write(record), w.Close()); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	got := readMeant(t, data, Arrow, &Spec{ID: "u", Keep: []string{"u"}})
	if len(got) != 6 {
		t.Fatalf("%d rows", len(got))
	}
	for i, g := range got {
		want, code := "", CodeID
		if i%3 < 2 {
			want, code = ids[i%3].String(), ""
		}
		if g.ID != want || g.Kept[0] != want || g.Code != code {
			t.Errorf("row %d: %+v, want %s", i, g, want)
		}
	}
	for _, s := range []*Spec{{Inputs: []Input{{Name: "x", Type: Bytes, Width: 1, Columns: []string{"u"}}}}, {Keep: []string{"plain"}}} {
		if _, err := Inspect(t.Context(), file(data), File{Format: Arrow}, s, Options{}); fault.CodeOf(err) != "column_type" {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
