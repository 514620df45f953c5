package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/platform/fault"
)

// What a page may have, by its header. That it has no more is looked at before it is decoded.
const (
	maxPage   = 64 << 20 // bytes
	maxHeader = 2 << 20  // bytes of the header itself
	maxValues = 8 << 20
)

// How many pages there may be, 16 bytes of memory each.
const (
	maxPages    = 1 << 16 // of a column in a group, those without data included
	maxAllPages = 1 << 21 // of the columns of a group that are read
)

// marks are where the data pages of a column are in a group, by their headers, as they follow one
// another: the file's index is not looked at, which may say anything.
type marks struct {
	begin, end int64 // of the column in the file
	pages      []mark
	unknown    bool // some pages do not say how many rows they have
	straight   bool // all can be read directly, and there are no others among them: a page is all that is before the next
}

// mark is a data page.
type mark struct{ at, rows int64 }

// headers finds the pages of a file's columns, group after group.
type headers struct {
	ctx   context.Context //nolint:containedctx // the reader's own: a column may have many headers
	raw   io.ReaderAt
	size  int64 // of the file
	group int
	kept  int // marks of the columns of the group
	most  int // headers that may be read; 0: all
	seen  int // that were

	inflated []byte // memory for a page of them
}

// find reads the headers of a column's pages. It refuses a column whose pages would take too
// much memory, or that is not in the file.
func (s *headers) find(m *format.ColumnMetaData, flat bool) (marks, error) {
	begin := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		begin = m.DictionaryPageOffset // which is before them
	}
	if begin < 0 || begin > m.DataPageOffset || begin > s.size || m.TotalCompressedSize < 0 || m.TotalCompressedSize > s.size-begin {
		return marks{}, errPlace
	}
	found := marks{begin: begin, end: begin + m.TotalCompressedSize, pages: []mark{}, straight: true}
	n := 0
	for at := begin; at < found.end; n++ {
		if n == maxPages || s.kept+len(found.pages) >= maxAllPages {
			return marks{}, errPages
		}
		if err := s.ctx.Err(); err != nil {
			return marks{}, fault.Wrap(fault.Canceled, err, "the pages of the file are not read")
		}
		if s.seen++; s.most > 0 && s.seen > s.most {
			return marks{}, errEnough
		}
		h, size, err := s.header(at, found.end)
		if err != nil {
			return marks{}, err
		}
		found.straight = found.straight && straight(m, &h)
		if rows, is := rowsByHeader(&h, flat); is {
			found.pages = append(found.pages, mark{at, rows})
			found.unknown = found.unknown || rows < 0
		}
		at += size + int64(h.CompressedPageSize)
	}
	s.kept += len(found.pages)
	return found, nil
}

// header reads the header of the page at a place before end, and returns its own size.
func (s *headers) header(at, end int64) (h format.PageHeader, size int64, err error) {
	var protocol thrift.CompactProtocol
	for window := int64(512); ; window *= 8 {
		b := make([]byte, min(window, end-at))
		if n, err := s.raw.ReadAt(b, at); n < len(b) {
			return h, 0, short(err)
		}
		err := thrift.NewDecoder(protocol.NewReaderFromBytes(b)).Decode(new(format.PageHeader)) // which takes no memory for a text that is not there
		if err == nil {
			r := bytes.NewReader(b) // which says where it ends
			if err := thrift.NewDecoder(protocol.NewReader(r)).Decode(&h); err != nil {
				return h, 0, err
			}
			size = int64(len(b) - r.Len())
			break
		}
		if int64(len(b)) == end-at || window >= maxHeader {
			return h, 0, err
		}
	}
	n := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
	if h.CompressedPageSize < 0 || max(h.CompressedPageSize, h.UncompressedPageSize) > maxPage || n > maxValues {
		return h, 0, errPage
	}
	return h, size, nil
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

// extent returns where a page is, with what is behind it before the next.
func (m *marks) extent(page int) (begin, end int64) {
	if page+1 < len(m.pages) {
		return m.pages[page].at, m.pages[page+1].at
	}
	return m.pages[page].at, m.end
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

// counted refuses a page, by its levels, that has not the rows which its header says, except those that are missing: where a
// row is must not depend on what was read before it.
func (l *leaf) counted(levels []byte, missing int64) error {
	if l.flat || l.marks.unknown || l.turned >= len(l.marks.pages) {
		return nil
	}
	want := l.marks.pages[l.turned].rows - missing
	l.turned++
	l.skipped = 0
	if int64(bytes.Count(levels, []byte{0})) != want {
		return errRows
	}
	return nil
}

var (
	errRows  = errors.New("a page does not have the rows that its header says")
	errPlace = errors.New("a column is not where the file says, or not in it")
)

var errPage error = fault.New(fault.Unprocessable, "a page of the file has more than %d bytes or %d values: write smaller pages", maxPage, maxValues).WithCode("file_page_too_large")

var errPages error = fault.New(fault.Unprocessable, "a column of the file has more than %d pages in a group of rows, or those that are read more than %d in all: write larger pages or smaller groups", maxPages, maxAllPages).WithCode("file_too_many_pages")
