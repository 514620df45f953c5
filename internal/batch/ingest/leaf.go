package ingest

import (
	"bufio"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/platform/fault"
)

// leaf reads one column of a Parquet file, and has the values of the present chunk.
type leaf struct {
	column int

	pages  parquet.Pages // of the group; nil: none is open
	group  int
	next   int64 // the row of the group that comes next
	page   parquet.Page
	left   parquet.ValueReader // of the page; nil: there is none
	buf    []parquet.Value
	at, in int // what is in buf, from at to before in

	values []parquet.Value
	ends   []int // where each row ends
}

// row returns the values of a row of the chunk.
func (l *leaf) row(i int) []parquet.Value {
	begin := 0
	if i > 0 {
		begin = l.ends[i-1]
	}
	return l.values[begin:l.ends[i]]
}

func (l *leaf) close() {
	if l.page != nil {
		parquet.Release(l.page)
	}
	if l.pages != nil {
		_ = l.pages.Close()
	}
	l.pages, l.page, l.left, l.at, l.in = nil, nil, nil, 0, 0
}

// read reads rows of a group. Where they follow those before, the pages stay open.
func (l *leaf) read(file *parquet.File, raw io.ReaderAt, group int, first int64, rows int) error {
	l.values, l.ends = l.values[:0], l.ends[:0]
	if l.pages == nil || l.group != group || l.next != first {
		l.close()
		if err := checkPages(raw, &file.Metadata().RowGroups[group].Columns[l.column].MetaData); err != nil {
			return err
		}
		l.pages = file.RowGroups()[group].ColumnChunks()[l.column].Pages()
		if first > 0 {
			if err := l.pages.SeekToRow(first); err != nil {
				return err
			}
		}
		l.group = group
	}
	for !l.take(rows) {
		if err := l.fill(); errors.Is(err, io.EOF) && len(l.ends) == rows-1 && len(l.values) > 0 {
			l.ends = append(l.ends, len(l.values)) // the last row ends with the group
			break
		} else if err != nil {
			return err
		}
	}
	l.next = first + int64(rows)
	return nil
}

// take moves values of the buffer into rows, and says whether there are enough.
func (l *leaf) take(rows int) bool {
	for ; l.at < l.in; l.at++ {
		v := l.buf[l.at]
		if v.RepetitionLevel() == 0 && len(l.values) > 0 {
			l.ends = append(l.ends, len(l.values))
		}
		if len(l.ends) == rows {
			return true
		}
		l.values = append(l.values, v)
	}
	return false
}

// fill reads more values into the buffer.
func (l *leaf) fill() error {
	for {
		if l.left == nil {
			page, err := l.pages.ReadPage()
			if err != nil {
				return err
			}
			l.page, l.left = page, page.Values()
		}
		n, err := l.left.ReadValues(l.buf)
		l.at, l.in = 0, n
		for i, v := range l.buf[:n] {
			if !v.IsNull() && v.Kind() == parquet.ByteArray {
				l.buf[i] = v.Clone() // the page's memory is used again
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			parquet.Release(l.page)
			l.page, l.left = nil, nil
		case err != nil:
			return err
		case n == 0:
			return io.ErrNoProgress
		}
		if n > 0 {
			return nil
		}
	}
}

// What a page may have: whatever reads it sets that aside beforehand.
const (
	maxPage   = 64 << 20 // bytes
	maxValues = 8 << 20
)

// checkPages refuses a column whose pages would take too much memory. Pages are read
// in their order, without the file's index, so these are the headers that count.
func checkPages(raw io.ReaderAt, m *format.ColumnMetaData) error {
	begin := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		begin = m.DictionaryPageOffset // which is before them
	}
	if begin < 0 || begin > m.DataPageOffset || m.TotalCompressedSize < 0 {
		return errPage
	}
	var protocol thrift.CompactProtocol
	for at, end := begin, begin+m.TotalCompressedSize; at < end; {
		counted := &counting{r: io.NewSectionReader(raw, at, end-at)}
		buffered := bufio.NewReaderSize(counted, 512)
		var h format.PageHeader
		if err := thrift.NewDecoder(protocol.NewReader(buffered)).Decode(&h); err != nil {
			return err
		}
		n := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
		if h.CompressedPageSize < 0 || max(h.CompressedPageSize, h.UncompressedPageSize) > maxPage || n > maxValues {
			return errPage
		}
		at += counted.n - int64(buffered.Buffered()) + int64(h.CompressedPageSize)
	}
	return nil
}

var errPage error = fault.New(fault.Unprocessable, "a page of the file has more than %d bytes or %d values: write smaller pages", maxPage, maxValues).WithCode("file_page_too_large")
