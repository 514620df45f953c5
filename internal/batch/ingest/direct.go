package ingest

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"
)

// direct reads the pages of a column whose values are in the file as they are in memory: lists of 32-bit floats, neither
// compressed nor encoded, and no lists of lists. On the usual way each byte of them is copied three times, which takes as long as a fifth of what
// small models do with it.
type direct struct {
	raw    io.ReaderAt
	at     int64  // in the file, of held
	held   []byte // whole pages, as far as they are read
	levels []byte // memory for those of a page
}

// span is how much is read at a time, in bytes, or a page.
const span = 1 << 20

// straight says whether direct can read a page.
func straight(m *format.ColumnMetaData, h *format.PageHeader) bool {
	v := &h.DataPageHeaderV2.V
	plain := m.Codec == format.Uncompressed || v.IsCompressed.Valid && !v.IsCompressed.V
	return m.Type == format.Float && h.Type == format.DataPageV2 && plain && v.Encoding == format.Plain && v.NumNulls == 0
}

// page returns the bytes of a page, which are valid until the next call.
func (d *direct) page(m *marks, n int) ([]byte, error) {
	begin, end := m.extent(n)
	if begin < d.at || end > d.at+int64(len(d.held)) {
		last := end
		for next := n + 1; next < len(m.pages); next++ {
			_, to := m.extent(next)
			if to-begin > span {
				break
			}
			last = to
		}
		if size := last - begin; int64(cap(d.held)) < size {
			d.held = make([]byte, max(size, min(span, m.end-m.begin)))
		}
		d.at, d.held = begin, d.held[:last-begin]
		if n, err := d.raw.ReadAt(d.held, begin); n < len(d.held) {
			d.held = d.held[:0]
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return d.held[begin-d.at : end-d.at], nil
}

// open takes the next page of a column, and says whether its rows can be taken whole.
func (d *direct) open(m *marks, n int, f *floats) (bool, error) {
	*f = floats{}
	page, err := d.page(m, n)
	if err != nil {
		return false, err
	}
	h, size, err := (&headers{raw: bytes.NewReader(page)}).header(0, int64(len(page)))
	if err != nil {
		return false, err
	}
	v := &h.DataPageHeaderV2.V
	page = page[size:]
	repeated, defined := int64(v.RepetitionLevelsByteLength), int64(v.DefinitionLevelsByteLength)
	if int64(h.CompressedPageSize) > int64(len(page)) || repeated < 0 || defined < 0 || repeated+defined > int64(h.CompressedPageSize) {
		return false, io.ErrUnexpectedEOF
	}
	page = page[:h.CompressedPageSize]
	if h.CRC != 0 && crc32.ChecksumIEEE(page) != uint32(h.CRC) {
		return false, parquet.ErrCorrupted
	}
	if err := checkRuns(page[:repeated], 1, int(v.NumValues)); err != nil {
		return false, err
	}
	if d.levels, err = (&rle.Encoding{BitWidth: 1}).DecodeLevels(d.levels, page[:repeated]); err != nil {
		return false, err
	}
	levels, values := d.levels, page[repeated+defined:]
	switch {
	case v.NumValues <= 0 || len(levels) < int(v.NumValues):
		return false, io.ErrUnexpectedEOF
	case levels[0] != 0 || len(values) != 4*int(v.NumValues): // empty lists have a level, and no value
		return false, nil
	}
	*f = floats{values: values, levels: levels[:v.NumValues]}
	return true, nil
}
