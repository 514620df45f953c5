package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"pgregory.net/rapid"
)

// rawPage is a page as it is in a file.
type rawPage struct {
	header format.PageHeader
	body   []byte
}

// crafted is a file of one column like that of T, whose pages are those.
func crafted[T any](t testing.TB, codec format.CompressionCodec, rows int64, pages ...rawPage) []byte {
	t.Helper()
	var like bytes.Buffer
	w := parquet.NewGenericWriter[T](&like)
	_, err := w.Write(make([]T, 1))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(like.Bytes()), int64(like.Len()))
	if err != nil {
		t.Fatal(err)
	}
	out := []byte("PAR1")
	meta := f.Metadata()
	group := &meta.RowGroups[0]
	c := &group.Columns[0].MetaData
	c.DataPageOffset, c.DictionaryPageOffset, c.Codec = int64(len(out)), 0, codec
	for _, p := range pages {
		p.header.CompressedPageSize = int32(len(p.body))
		h, err := thrift.Marshal(new(thrift.CompactProtocol), &p.header)
		if err != nil {
			t.Fatal(err)
		}
		if p.header.Type == format.DictionaryPage {
			c.DictionaryPageOffset, c.DataPageOffset = int64(len(out)), int64(len(out)+len(h)+len(p.body))
		}
		out = append(append(out, h...), p.body...)
	}
	c.TotalCompressedSize = int64(len(out) - 4)
	group.NumRows, meta.NumRows = rows, rows
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), "PAR1"...)
}

// longRuns is six hundred million zeros.
var longRuns = bytes.Repeat(run(200_000_000, 0), 3)

// measured reads a file, and returns how many of its rows are good, what was wrong with the first that is not, and how much memory was taken for
// them in all.
func measured(t testing.TB, data []byte, s *Spec) (good int, wrong *RowError, taken uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := Open(t.Context(), file(data), File{Format: Parquet}, s, Position{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for c := new(Chunk); ; {
		if err := r.Read(c, Limit{Rows: 100, Bytes: 1 << 20}); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		good += len(c.Good)
		if len(c.Errors) > 0 && wrong == nil {
			wrong = &c.Errors[0]
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return good, wrong, after.TotalAlloc - before.TotalAlloc
}

type listRow struct {
	X []float32 `parquet:"x"`
}

// run is so many times the same value, of up to a byte.
func run(n int, value byte) []byte { return append(binary.AppendUvarint(nil, uint64(n)<<1), value) }

// plain is a page of lists whose values are as they are in memory.
func plain(values, rows int, repeated, defined, data []byte) rawPage {
	return rawPage{format.PageHeader{Type: format.DataPageV2, UncompressedPageSize: int32(len(repeated) + len(defined) + len(data)), DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
		NumValues: int32(values), NumRows: int32(rows), Encoding: format.Plain, IsCompressed: thrift.New(false),
		RepetitionLevelsByteLength: int32(len(repeated)), DefinitionLevelsByteLength: int32(len(defined)),
	})}, slices.Concat(repeated, defined, data)}
}

var ofLists = &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 1, Columns: []string{"x"}}}}

// A page of a few bytes takes no more memory than it says, however long its runs are.
func TestLongRunsDirect(t *testing.T) {
	for name, levels := range map[string][]byte{"long": longRuns, "one more": run(9, 0), "in sum": slices.Concat(run(8, 0), run(8, 0))} {
		good, wrong, taken := measured(t, crafted[listRow](t, format.Uncompressed, 1, plain(1, 1, levels, run(1, 1), make([]byte, 4))), ofLists)
		if good != 0 || wrong == nil || !strings.Contains(wrong.Message, errRuns.Error()) || taken > 16<<20 {
			t.Errorf("%s: %d rows, %v, %d bytes", name, good, wrong, taken)
		}
	}
	for name, levels := range map[string][]byte{"exact": run(1, 0), "a group of eight": {1<<1 | 1, 0}} {
		if good, wrong, _ := measured(t, crafted[listRow](t, format.Uncompressed, 1, plain(1, 1, levels, run(1, 1), make([]byte, 4))), ofLists); good != 1 {
			t.Errorf("%s: %d rows, %v", name, good, wrong)
		}
	}
}

// Pages without data between those with are not read, let alone held.
func TestPagesBetween(t *testing.T) {
	other := rawPage{format.PageHeader{Type: format.IndexPage}, make([]byte, 24<<20)}
	page := plain(1, 1, run(1, 0), run(1, 1), make([]byte, 4))
	data := crafted[listRow](t, format.Uncompressed, 3, page, other, other, other, page, page)
	if _, _, taken := measured(t, data, ofLists); taken > 16<<20 {
		t.Errorf("%d bytes are taken", taken)
	}
}

// A header takes no memory for a text that is not in the file.
func TestLongTextInHeader(t *testing.T) {
	p := plain(1, 1, run(1, 0), run(1, 1), make([]byte, 4))
	p.header.DataPageHeaderV2.V.Statistics.MaxValue = []byte("abcdefg")
	h, err := thrift.Marshal(new(thrift.CompactProtocol), &p.header)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(h))
	if _, n, err := (&headers{raw: bytes.NewReader(append(bytes.Clone(h), 1, 2, 3))}).header(0, size+3); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	before, after, _ := bytes.Cut(h, []byte("\x07abcdefg"))
	h = slices.Concat(before, binary.AppendUvarint(nil, 800_000_000), after)
	var from, to runtime.MemStats
	runtime.ReadMemStats(&from)
	_, _, err = (&headers{raw: bytes.NewReader(h)}).header(0, int64(len(h)))
	runtime.ReadMemStats(&to)
	if taken := to.TotalAlloc - from.TotalAlloc; err == nil || taken > 16<<20 {
		t.Errorf("%d bytes, %v", taken, err)
	}
}

// Runs are refused where they have more values than they may, whatever decodes them, and nowhere else.
func TestRunsLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		width := rapid.IntRange(1, 8).Draw(rt, "width")
		values := rapid.SliceOfN(rapid.Byte(), 0, maxPacked+200).Draw(rt, "values")
		for i := range values {
			values[i] &= byte(1<<width - 1)
			if i > 0 && rapid.Bool().Draw(rt, "again") {
				values[i] = values[i-1]
			}
		}
		e := &rle.Encoding{BitWidth: width}
		data, err := e.EncodeLevels(nil, values)
		if err != nil {
			rt.Fatal(err)
		}
		if err := checkRuns(data, width, len(values)); err != nil {
			rt.Fatalf("% x: %v", data, err)
		}
		if n := len(values) - 8 - maxPacked; n >= 0 && !errors.Is(checkRuns(data, width, n), errRuns) {
			rt.Fatalf("% x may have %d values", data, n)
		}
	})
}

func FuzzRuns(f *testing.F) {
	f.Add([]byte{3, 0, 2, 1}, 1, 9)
	f.Add(longRuns, 1, 9)
	f.Fuzz(func(t *testing.T, data []byte, width, n int) {
		width, n = 1+width&7, n&0xffff
		if checkRuns(data, width, n) != nil {
			return
		}
		if got, err := (&rle.Encoding{BitWidth: width}).DecodeLevels(nil, data); err != nil || len(got) > n+maxPacked {
			t.Errorf("%d values of %d, %v", len(got), n, err)
		}
	})
}
