package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/platform/fault"
)

// What a page may have: whatever reads it sets that aside beforehand.
const (
	maxPage   = 64 << 20 // bytes
	maxValues = 8 << 20
)

// marks are where the data pages of a column are in a group, by their headers, as they follow one
// another: the file's index is not looked at, which may say anything.
type marks struct {
	begin, end int64 // of the column in the file
	pages      []mark
	unknown    bool // some pages do not say how many rows they have
}

// mark is a data page.
type mark struct{ at, rows int64 }

// findPages reads the headers of a column's pages. It refuses a column whose pages would take too
// much memory.
func findPages(raw io.ReaderAt, m *format.ColumnMetaData, flat bool) (found marks, err error) {
	begin := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		begin = m.DictionaryPageOffset // which is before them
	}
	if begin < 0 || begin > m.DataPageOffset || m.TotalCompressedSize < 0 {
		return found, errPage
	}
	found = marks{begin: begin, end: begin + m.TotalCompressedSize, pages: []mark{}}
	var protocol thrift.CompactProtocol
	for at := begin; at < found.end; {
		counted := &counting{r: io.NewSectionReader(raw, at, found.end-at)}
		buffered := bufio.NewReaderSize(counted, 512)
		var h format.PageHeader
		if err := thrift.NewDecoder(protocol.NewReader(buffered)).Decode(&h); err != nil {
			return found, err
		}
		n := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
		if h.CompressedPageSize < 0 || max(h.CompressedPageSize, h.UncompressedPageSize) > maxPage || n > maxValues {
			return found, errPage
		}
		if rows, is := rowsByHeader(&h, flat); is {
			found.pages = append(found.pages, mark{at, rows})
			found.unknown = found.unknown || rows < 0
		}
		at += counted.n - int64(buffered.Buffered()) + int64(h.CompressedPageSize)
	}
	return found, nil
}

// rowsByHeader is how many rows a page of data has by its header, -1 where that does not say. A page of another kind
// is none.
func rowsByHeader(h *format.PageHeader, flat bool) (rows int64, is bool) {
	switch h.Type {
	case format.DataPageV2:
		return int64(h.DataPageHeaderV2.V.NumRows), true
	case format.DataPage:
		if flat { // a row is a value
			return int64(h.DataPageHeader.V.NumValues), true
		}
		return -1, true
	}
	return 0, false
}

// find returns the page that a row of the group is in, and the rows before that page; one before it, where
// more is not known.
func (m *marks) find(row int64) (page int, before int64) {
	for page < len(m.pages)-1 {
		rows := m.pages[page].rows
		if rows < 0 || before+rows > row {
			break
		}
		before += rows
		page++
	}
	return page, before
}

// from returns the file as if the column's data began with a page: what is before its data, a dictionary
// perhaps, is where it was.
func (m *marks) from(raw io.ReaderAt, page int) io.ReaderAt {
	if page == 0 {
		return raw
	}
	return spliced{raw, m.pages[0].at, m.pages[page].at - m.pages[0].at, m.end}
}

// spliced is a file from which a piece is cut out, and that ends.
type spliced struct {
	r    io.ReaderAt
	at   int64 // of the piece
	size int64 // of the piece
	end  int64 // of the file, the piece included
}

// ReadAt implements io.ReaderAt.
func (s spliced) ReadAt(p []byte, at int64) (n int, err error) {
	if at < s.at {
		n, err = s.r.ReadAt(p[:min(int64(len(p)), s.at-at)], at)
		if n == len(p) || int64(n) < s.at-at {
			return n, err
		}
		p, at = p[n:], s.at
	}
	left := s.end - s.size - at
	if left <= 0 {
		return n, io.EOF
	}
	short := int64(len(p)) > left
	k, err := s.r.ReadAt(p[:min(int64(len(p)), left)], at+s.size)
	if err == nil && short {
		err = io.EOF
	}
	return n + k, err
}

// counted refuses a page that has not the rows which its header says: where a row is must not depend
// on what was read before it.
func (l *leaf) counted(page parquet.Page) error {
	if l.flat || l.marks.unknown || l.turned >= len(l.marks.pages) {
		return nil
	}
	want := l.marks.pages[l.turned].rows - l.skipped
	l.turned++
	l.skipped = 0
	if int64(bytes.Count(page.RepetitionLevels(), []byte{0})) != want {
		return errRows
	}
	return nil
}

var errRows = errors.New("a page does not have the rows that its header says")

var errPage error = fault.New(fault.Unprocessable, "a page of the file has more than %d bytes or %d values: write smaller pages", maxPage, maxValues).WithCode("file_page_too_large")
