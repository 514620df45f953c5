package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/parquet-go/parquet-go"
	"github.com/xuri/excelize/v2"

	"sluice/internal/platform/fault"
)

// store is a file in a store that fails at one of its reads, and counts them.
type store struct {
	data  []byte
	fails int // the number of the read; 0: none
	reads int
	bytes int64
}

var errStore error = fault.New(fault.Unavailable, "the store is away")

func (s *store) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	return file(s.data).Open(ctx, offset)
}

func (s *store) File(context.Context) (io.ReaderAt, int64, error) {
	return s, int64(len(s.data)), nil
}

// ReadAt implements io.ReaderAt.
func (s *store) ReadAt(p []byte, at int64) (int, error) {
	s.reads++
	if s.reads == s.fails {
		return 0, errStore
	}
	n, err := bytes.NewReader(s.data).ReadAt(p, at)
	s.bytes += int64(n)
	return n, err
}

// drain reads all rows of a file, and returns how many they are and how many chunks.
func drain(ctx context.Context, src Source, s *Spec, l Limit) (rows, chunks int, err error) {
	f, err := Inspect(ctx, src, File{}, s, Options{})
	if err != nil {
		return 0, 0, err
	}
	r, err := Open(ctx, src, f, s, f.First, Options{})
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	for c := new(Chunk); ; chunks++ {
		err := r.Read(c, l)
		if errors.Is(err, io.EOF) {
			return rows, chunks, nil
		}
		if err != nil {
			return rows, chunks, err
		}
		rows += c.Rows
	}
}

// A store that is away for a moment is no damage of the file, wherever it is read.
func TestStoreAway(t *testing.T) {
	for name, data := range map[string][]byte{"file": goodArrow(t, true, ""), "stream": goodArrow(t, false, "zstd")} {
		whole := &store{data: data}
		if _, _, err := drain(t.Context(), whole, ofArrow, Limit{Rows: 2, Bytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		for i := range whole.reads {
			if _, _, err := drain(t.Context(), &store{data: data, fails: i + 1}, ofArrow, Limit{Rows: 2, Bytes: 1 << 20}); !errors.Is(err, errStore) {
				t.Errorf("%s, read %d: %v", name, i, err)
			}
		}
	}
}

// A file that is cut in its first batch is damaged, and not one without rows.
func TestArrowCut(t *testing.T) {
	data := recordOf(t, 1, []string{"t"}, textsOf(strings.Repeat("x", 10_000)))
	if _, err := Inspect(t.Context(), file(data[:len(data)-1000]), File{}, &Spec{}, Options{}); fault.CodeOf(err) != codeDamaged {
		t.Error(err)
	}
	twice := recordOf(t, 2, []string{"t"}, textsOf(strings.Repeat("x", 10_000), "y"))
	if rows, _, err := drain(t.Context(), file(twice[:len(twice)-1000]), &Spec{Keep: []string{"t"}}, Limit{Rows: 10, Bytes: 1 << 20}); rows != 3 || err != nil {
		t.Error(rows, err) // the rows of the batches that can be found, and one for the rest
	}
}

// Chunks are as large as they may be, however small the batches of a file are, and these
// are not read one by one.
func TestSmallBatches(t *testing.T) {
	type row struct {
		T string `parquet:"t"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b)
	for range 100 {
		if _, err := w.Write(slices.Repeat([]row{{"x"}}, 3)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := &Spec{Keep: []string{"t"}}
	for name, data := range map[string][]byte{"parquet": b.Bytes(), "arrow": recordOf(t, 100, []string{"t"}, textsOf("x", "x", "x"))} {
		if rows, chunks, err := drain(t.Context(), file(data), s, Limit{Rows: 128, Bytes: 1 << 20}); rows != 300 || chunks != 3 || err != nil {
			t.Errorf("%s: %d rows in %d chunks, %v", name, rows, chunks, err)
		}
		if rows, chunks, err := drain(t.Context(), file(data), s, Limit{Rows: 2, Bytes: 1 << 20}); rows != 300 || chunks != 150 || err != nil {
			t.Errorf("%s: %d rows in %d chunks, %v", name, rows, chunks, err)
		}
	}
	of := &store{data: recordOf(t, 100, []string{"t"}, textsOf("x", "x", "x"))}
	if _, err := Inspect(t.Context(), of, File{}, s, Options{}); err != nil || of.reads > 5 {
		t.Errorf("%d reads to find 100 batches, %v", of.reads, err)
	}
}

// wordsOf is a column of one row with a word.
func wordsOf(t testing.TB, word string) arrow.Array {
	t.Helper()
	b := array.NewDictionaryBuilder(memory.DefaultAllocator, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}).(*array.BinaryDictionaryBuilder)
	if err := b.AppendString(word); err != nil {
		t.Fatal(err)
	}
	return b.NewArray()
}

// Dictionaries that replace others take their room, and are read once.
func TestReplacedDictionaries(t *testing.T) {
	const size = 3 << 20
	var data []byte
	for i := range 24 { // each stream begins with its schema, and ends with 8 bytes
		one := recordOf(t, 1, []string{"t"}, wordsOf(t, strings.Repeat(string(rune('a'+i)), size)))
		if i > 0 {
			one = one[len(schemaMessage(t, one)):]
		}
		data = append(data, one[:len(one)-8]...)
	}
	rows, _, err := drain(t.Context(), file(data), &Spec{Keep: []string{"t"}}, Limit{Rows: 100, Bytes: 1 << 20})
	if rows != 24 || err != nil {
		t.Error(rows, err)
	}
	same := &store{data: recordOf(t, 50, []string{"t"}, wordsOf(t, strings.Repeat("x", 1<<20)))}
	if rows, _, err = drain(t.Context(), same, &Spec{Keep: []string{"t"}}, Limit{Rows: 1, Bytes: 1 << 20}); rows != 50 || err != nil || same.bytes > 4*int64(len(same.data)) {
		t.Errorf("%d bytes were read of a file of %d, %d rows, %v", same.bytes, len(same.data), rows, err)
	}
}

// schemaMessage is the first message of a stream.
func schemaMessage(t testing.TB, data []byte) []byte {
	t.Helper()
	m, err := readMessage(bytes.NewReader(data), 0, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return data[:m.end]
}

// A workbook's archive is read in steps, also where the store has each read as a request.
func TestWorkbookReads(t *testing.T) {
	data := bookOf(t, func(f *excelize.File) {
		w, err := f.NewStreamWriter("Sheet1")
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 20_000 {
			row := []any{"t"}
			if i > 0 {
				row = []any{strconv.FormatUint(random.Uint64(), 36)}
			}
			if err := w.SetRow("A"+strconv.Itoa(i+1), row); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	of := &store{data: data}
	rows, _, err := drain(t.Context(), of, &Spec{Keep: []string{"t"}}, Limit{Rows: 5000, Bytes: 1 << 20})
	if rows != 19_999 || err != nil || len(data) < bookStep {
		t.Errorf("%d rows of %d bytes, %v", rows, len(data), err)
	}
	if most := 30 + 4*len(data)/bookStep; of.reads > most {
		t.Errorf("%d reads of a workbook of %d bytes, more than %d", of.reads, len(data), most)
	}
}
