package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// Rows are those that were written, wherever a reader goes on, whatever pages say of themselves.
func TestJumpsLaw(t *testing.T) {
	s := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 3, Columns: []string{"plain"}}, {Name: "y", Type: "FP32", Width: 3, Columns: []string{"few"}}}}
	rapid.Check(t, func(rt *rapid.T) {
		rows := make([]floatRow, 80)
		for i := range rows {
			for j := range 3 {
				rows[i].Plain, rows[i].Few = append(rows[i].Plain, float32(3*i+j)), append(rows[i].Few, float32(i%7))
			}
		}
		var b bytes.Buffer
		w := parquet.NewGenericWriter[floatRow](&b, parquet.MaxRowsPerRowGroup(rapid.Int64Range(1, 80).Draw(rt, "group")),
			parquet.PageBufferSize(rapid.IntRange(16, 400).Draw(rt, "page")), parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "version")))
		_, err := w.Write(rows)
		if err := errors.Join(err, w.Close()); err != nil {
			rt.Fatal(err)
		}
		f, err := Inspect(t.Context(), file(b.Bytes()), File{Format: Parquet}, s, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		r, err := Open(t.Context(), file(b.Bytes()), f, s, f.First, Options{})
		if err != nil {
			rt.Fatal(err)
		}
		c := new(Chunk)
		for row := 0; row < len(rows); {
			row += rapid.IntRange(0, 30).Draw(rt, "jump")
			if row >= len(rows) {
				break
			}
			if err := errors.Join(r.Forward(Position{Row: int64(row), Offset: int64(row)}), r.Read(c, Limit{Rows: rapid.IntRange(1, 9).Draw(rt, "rows"), Bytes: 1 << 20})); err != nil {
				rt.Fatal(err)
			}
			for n := range c.Good {
				want := pair(float32(3*(row+n)), float32(3*(row+n)+1))
				if got := c.Tensors[0].Slice(n, n+1); len(c.Good) != c.Rows || string(got[:8]) != want {
					rt.Fatalf("row %d: % x, want % x", row+n, got, want)
				}
				if got := c.Tensors[1].Slice(n, n+1); string(got[:4]) != pair(float32((row+n)%7), 0)[:4] {
					rt.Fatalf("row %d: % x of few", row+n, got)
				}
			}
			row += c.Rows
		}
		if err := r.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// A page that has other rows than it says is refused, not read as some other rows.
func TestLyingPages(t *testing.T) {
	l := &leaf{marks: marks{pages: []mark{{0, 2}}}}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[floatRow](&b)
	_, err := w.Write([]floatRow{{Plain: []float32{1}}, {Plain: []float32{2}}, {Plain: []float32{3, 4}}})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	pages := f.RowGroups()[0].ColumnChunks()[0].Pages()
	defer pages.Close()
	page, err := pages.ReadPage()
	if err != nil {
		t.Fatal(err)
	}
	defer parquet.Release(page)
	if err := l.counted(page.RepetitionLevels(), l.skipped); !errors.Is(err, errRows) {
		t.Error(err)
	}
	l.turned, l.marks.pages[0].rows = 0, 3
	if err := l.counted(page.RepetitionLevels(), l.skipped); err != nil {
		t.Error(err)
	}
	if err := guarded(func() error { return errRows }); fault.CodeOf(err) != codeDamaged {
		t.Error(err)
	}
}

// What is cut out is not there, and nothing else is missing.
func TestSplicedLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(rt, "data")
		end := rapid.IntRange(0, len(data)).Draw(rt, "end")
		at := rapid.IntRange(0, end).Draw(rt, "at")
		size := rapid.IntRange(0, end-at).Draw(rt, "size")
		s := spliced{bytes.NewReader(data), int64(at), int64(size), int64(end)}
		want := append(append([]byte{}, data[:at]...), data[at+size:end]...)
		got, err := io.ReadAll(io.NewSectionReader(s, 0, math.MaxInt32))
		if err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("% x, want % x: %v", got, want, err)
		}
		from, n := rapid.IntRange(0, len(want)).Draw(rt, "from"), rapid.IntRange(1, 70).Draw(rt, "n")
		p := make([]byte, n)
		k, err := s.ReadAt(p, int64(from))
		if whole := min(n, len(want)-from); k != whole || !bytes.Equal(p[:k], want[from:from+k]) || (err != nil) != (k < n) && err != io.EOF { //nolint:errorlint // as it is returned
			rt.Fatalf("%d bytes from %d: %d, % x, %v", n, from, k, p[:k], err)
		}
	})
}

// emptyPages is a column of pages without values, as much of one as a file of so many bytes.
func emptyPages(t testing.TB, pages int) (data []byte, m *format.ColumnMetaData) {
	t.Helper()
	one, err := thrift.Marshal(new(thrift.CompactProtocol), &format.PageHeader{Type: format.DataPageV2, DataPageHeaderV2: thrift.Null[format.DataPageHeaderV2]{Valid: true}})
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Repeat(one, pages)
	return data, &format.ColumnMetaData{TotalCompressedSize: int64(len(data))}
}

// Headers cost no more memory than is set aside for them, and no time for a reader that is gone.
func TestManyPages(t *testing.T) {
	data, m := emptyPages(t, maxPages+1)
	s := &headers{ctx: t.Context(), raw: bytes.NewReader(data), size: int64(len(data))}
	if found, err := s.find(m, true); !errors.Is(err, errPages) || found.pages != nil || s.kept != 0 {
		t.Errorf("%d pages, %v", len(found.pages), err)
	}
	data, m = emptyPages(t, 100)
	s.raw, s.size = bytes.NewReader(data), int64(len(data))
	for _, c := range []struct {
		kept int
		err  error
	}{{maxAllPages - 99, errPages}, {maxAllPages - 100, nil}} {
		s.kept = c.kept
		if found, err := s.find(m, true); !errors.Is(err, c.err) || err == nil && (len(found.pages) != 100 || s.kept != maxAllPages) {
			t.Errorf("behind %d pages: %d, %v", c.kept, len(found.pages), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s = &headers{ctx: ctx, raw: s.raw, size: s.size}
	if _, err := s.find(m, true); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A column that is not in the file has no pages, rather than some that nothing has checked.
func TestColumnsElsewhere(t *testing.T) {
	data, _ := emptyPages(t, 3)
	size := int64(len(data))
	for _, m := range []format.ColumnMetaData{
		{DataPageOffset: 5, TotalCompressedSize: math.MaxInt64}, {TotalCompressedSize: size + 1}, {DataPageOffset: size + 1},
		{DataPageOffset: -1}, {TotalCompressedSize: -1}, {DataPageOffset: 5, DictionaryPageOffset: 6},
	} {
		s := &headers{ctx: t.Context(), raw: bytes.NewReader(data), size: size}
		if found, err := s.find(&m, true); !errors.Is(err, errPlace) || found.pages != nil {
			t.Errorf("%+v: %v, %v", m, found, err)
		}
	}
	if err := guarded(func() error { return errPlace }); fault.CodeOf(err) != codeDamaged {
		t.Error(err)
	}
}

// A group whose headers cannot be read to the end is lost to every reader: those before
// the damage are not enough for the one that has seen them.
func TestDamagedHeader(t *testing.T) {
	spec := &Spec{Inputs: []Input{{Name: "x", Type: "FP32", Width: 3, Columns: []string{"plain"}}, {Name: "y", Type: "FP32", Width: 3, Columns: []string{"few"}}}}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[floatRow](&b, parquet.PageBufferSize(16))
	for i := range 40 {
		x := float32(i)
		if _, err := w.Write([]floatRow{{Plain: []float32{x, 1, 2}, Few: []float32{3, 4, 5}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	hurt := 0
	for i := range f.Metadata().RowGroups[0].Columns {
		m := &f.Metadata().RowGroups[0].Columns[i].MetaData
		s := &headers{ctx: t.Context(), raw: bytes.NewReader(b.Bytes()), size: int64(b.Len())}
		found, err := s.find(m, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(found.pages) < 3 {
			continue
		}
		hurt++
		data := bytes.Clone(b.Bytes())
		data[found.pages[len(found.pages)-1].at] = 0xff
		if _, err := alike(t, fmt.Sprint("column ", i), data, Parquet, spec); err != nil {
			t.Error(err)
		}
	}
	if hurt == 0 {
		t.Error("no column has pages enough")
	}
}
