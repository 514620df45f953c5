package ingest

import (
	"errors"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// vetted is the pages of a column, none of which takes more memory to decode than its header says: the library takes whatever
// the bytes of a page ask for. Each is looked at before a byte of it is given out, for which what is compressed is
// decompressed once more.
//
// What decoding a page takes is therefore bounded by maxPage and maxValues, a few times each: the page as it is in the file, here
// and in the library, as it is decompressed, and 4 or 8 bytes for each of its values, besides its levels.
type vetted struct {
	column
	headers headers // of the pages, as they are in a file
	begin   int64   // of the first page
	end     int64   // of the last
	at      int64   // in the file, of held
	held    []byte  // a page, with its header
	memory  *[]byte // for a page that is decompressed
}

// column is what pages of a column are decoded by.
type column struct {
	codec             format.CompressionCodec // of the file's first group, by which the library reads them all
	kind              parquet.Kind
	repeated, defined int // the highest levels
}

// decodedBy is what the library decodes pages of a column by.
func decodedBy(file *parquet.File, leaf parquet.LeafColumn) (c column) {
	c.kind, c.repeated, c.defined = leaf.Node.Type().Kind(), leaf.MaxRepetitionLevel, leaf.MaxDefinitionLevel
	if groups := file.Metadata().RowGroups; len(groups) > 0 {
		c.codec = groups[0].Columns[leaf.ColumnIndex].MetaData.Codec
	}
	return c
}

// ReadAt implements io.ReaderAt.
func (v *vetted) ReadAt(p []byte, at int64) (n int, err error) {
	if at < v.begin {
		return 0, errPlace
	}
	if at < v.at { // a dictionary is read again, perhaps
		v.at, v.held = v.begin, v.held[:0]
	}
	for n < len(p) {
		in := at + int64(n) - v.at
		if in < int64(len(v.held)) {
			n += copy(p[n:], v.held[in:])
			continue
		}
		if err := v.next(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// next takes the page behind the one that is held.
func (v *vetted) next() error {
	v.at += int64(len(v.held))
	if v.held = v.held[:0]; cap(v.held) > span {
		v.held = nil
	}
	if v.at >= v.end {
		return io.EOF
	}
	h, size, err := v.headers.header(v.at, v.end)
	if err != nil {
		return short(err)
	}
	if h.Type != format.DataPage && h.Type != format.DataPageV2 && h.Type != format.DictionaryPage {
		return errKind // as the library says, which reads it first
	}
	whole := size + int64(h.CompressedPageSize)
	if whole > v.end-v.at {
		return io.ErrUnexpectedEOF
	}
	if int64(cap(v.held)) < whole {
		v.held = make([]byte, whole)
	}
	page := v.held[:whole]
	if err := readAt(v.headers.raw, page, v.at); err != nil {
		return err
	}
	if err := v.page(&h, page[size:]); err != nil {
		return short(err)
	}
	v.held = page
	return nil
}

var errKind = errors.New("a page is neither one of data nor of a dictionary")

// page refuses one that takes more memory than its header says.
func (v *vetted) page(h *format.PageHeader, body []byte) (err error) {
	switch h.Type {
	case format.DataPageV2:
		p := &h.DataPageHeaderV2.V
		n := int(p.NumValues)
		repeated, defined := int64(p.RepetitionLevelsByteLength), int64(p.DefinitionLevelsByteLength)
		if repeated < 0 || defined < 0 || repeated+defined > int64(len(body)) {
			return io.ErrUnexpectedEOF
		}
		if err := checkLevels(body[:repeated], format.RLE, v.repeated, n); err != nil {
			return err
		}
		if err := checkLevels(body[repeated:repeated+defined], format.RLE, v.defined, n); err != nil {
			return err
		}
		body = body[repeated+defined:]
		if !p.IsCompressed.Valid || p.IsCompressed.V {
			if body, err = v.inflate(body, h); err != nil {
				return err
			}
		}
		return checkValues(body, p.Encoding, v.kind, n)
	case format.DataPage:
		p := &h.DataPageHeader.V
		n := int(p.NumValues)
		if body, err = v.inflate(body, h); err != nil {
			return err
		}
		if body, err = checkPrefixed(body, p.RepetitionLevelEncoding, v.repeated, n); err != nil {
			return err
		}
		if body, err = checkPrefixed(body, p.DefinitionLevelEncoding, v.defined, n); err != nil {
			return err
		}
		return checkValues(body, p.Encoding, v.kind, n)
	case format.DictionaryPage:
		p := &h.DictionaryPageHeader.V
		if body, err = v.inflate(body, h); err != nil || p.Encoding == format.PlainDictionary { //nolint:staticcheck // older files have it, and mean plain
			return err
		}
		return checkValues(body, p.Encoding, v.kind, int(p.NumValues))
	}
	return errKind
}

func (v *vetted) inflate(body []byte, h *format.PageHeader) ([]byte, error) {
	if v.codec == format.Uncompressed {
		return body, nil
	}
	if *v.memory == nil || cap(*v.memory) < int(h.UncompressedPageSize) {
		*v.memory = make([]byte, max(h.UncompressedPageSize, 0))
	}
	return inflatePage((*v.memory)[:0:max(h.UncompressedPageSize, 0)], v.codec, body)
}
