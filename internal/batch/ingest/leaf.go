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

// leaf reads one column of a Parquet file, row by row.
type leaf struct {
	cells
	column int
	flat   bool // each row has exactly one value

	pages  parquet.Pages // of the group; nil: none is open
	group  int
	next   int64 // the row of the group that comes next
	page   parquet.Page
	left   parquet.ValueReader // of the page; nil: it has no more
	buf    []parquet.Value     // whose bytes are the page's or the dictionary's
	at, in int                 // what is in buf, from at to before in
}

func (l *leaf) close() {
	l.release()
	if l.pages != nil {
		_ = l.pages.Close()
	}
	l.pages, l.at, l.in = nil, 0, 0
}

// release gives back the page, and with it the bytes of what is in the buffer.
func (l *leaf) release() {
	if l.page != nil {
		parquet.Release(l.page)
	}
	l.page, l.left = nil, nil
}

// seek goes to a row of a group. Where it follows the last, the pages stay open.
func (l *leaf) seek(file *parquet.File, raw io.ReaderAt, group int, row int64) error {
	if l.pages != nil && l.group == group && l.next == row {
		return nil
	}
	l.close()
	if err := checkPages(raw, &file.Metadata().RowGroups[group].Columns[l.column].MetaData); err != nil {
		return err
	}
	l.pages = file.RowGroups()[group].ColumnChunks()[l.column].Pages()
	l.group, l.next = group, row
	if row == 0 {
		return nil
	}
	return l.pages.SeekToRow(row)
}

// read reads the next row, whose values are valid until the next call. It returns the
// bytes that they take: of a row of more than most, the rest is passed over.
func (l *leaf) read(most int64) (size int64, err error) {
	const each = 8 // bytes of a value, at least
	l.values = l.values[:0]
	for n := 0; ; n++ {
		if l.at == l.in {
			l.own()
			if err := l.fill(); errors.Is(err, io.EOF) && n > 0 {
				break // the last row ends with the group
			} else if err != nil {
				return size, err
			}
		}
		v := l.buf[l.at]
		if n > 0 && v.RepetitionLevel() == 0 {
			break
		}
		l.at++
		if size += each; v.Kind() == parquet.ByteArray && !v.IsNull() {
			size += int64(len(v.ByteArray()))
		}
		if size <= most {
			l.values = append(l.values, v)
		}
		if l.flat {
			break
		}
	}
	l.next++
	return size, nil
}

// own copies the row's bytes that are the page's, which goes.
func (l *leaf) own() {
	for i, v := range l.values {
		l.values[i] = v.Clone()
	}
}

// fill reads more values into the buffer.
func (l *leaf) fill() error {
	for {
		if l.left == nil {
			l.release()
			page, err := l.pages.ReadPage()
			if err != nil {
				return err
			}
			l.page, l.left = page, page.Values()
		}
		n, err := l.left.ReadValues(l.buf)
		l.at, l.in = 0, n
		switch {
		case errors.Is(err, io.EOF):
			l.left = nil
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
