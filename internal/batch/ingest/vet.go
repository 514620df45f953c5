package ingest

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/platform/fault"
)

// vettedHeaders of pages are read before a file is accepted: as many as an object store gives
// in some seconds. A survey reads all.
const vettedHeaders = 256

// Vet refuses a Parquet file that has pages which are not read because of their size, as far
// as a few hundred of their headers tell: who runs the file would only find them when he
// comes there.
func Vet(ctx context.Context, src Source, f File, s *Spec) error {
	if f.Format != Parquet {
		return nil
	}
	file, raw, err := openFile(ctx, src)
	if err != nil {
		return err
	}
	return vet(ctx, file, raw, s, vettedHeaders)
}

// vet looks at the pages of the columns that are read, by so many headers at most; 0: by all.
// Whatever else is wrong with them costs rows, and no file.
func vet(ctx context.Context, file *parquet.File, raw io.ReaderAt, s *Spec, most int) error {
	var columns []parquet.LeafColumn
	for _, name := range s.columns() {
		l, err := leafOf(file, name)
		if err != nil {
			return err
		}
		columns = append(columns, l)
	}
	h := headers{ctx: ctx, raw: raw, size: file.Size(), most: most}
	for group := range file.Metadata().RowGroups {
		h.kept = 0
		for _, l := range columns {
			m := &file.Metadata().RowGroups[group].Columns[l.ColumnIndex].MetaData
			if !mayExceed(m) {
				continue
			}
			err := guarded(func() error { _, err := h.find(m, l.MaxRepetitionLevel == 0); return err })
			switch {
			case errors.Is(err, errEnough):
				return nil
			case errors.Is(err, errPage), errors.Is(err, errPages):
				return inGroup(err, m, group)
			case ctx.Err() != nil:
				return err
			}
		}
	}
	return nil
}

// errEnough ends the reading of headers.
var errEnough = errors.New("as many headers of pages are read as should be")

// mayExceed says whether a column of a group has so much that a page of it could be too large,
// or its pages too many: their headers have 10 bytes and more.
func mayExceed(m *format.ColumnMetaData) bool {
	return max(m.TotalUncompressedSize, m.TotalCompressedSize) > maxPage || m.NumValues > maxValues || m.TotalCompressedSize > 10*maxPages
}

// inGroup says of what is wrong with a column's pages where that is.
func inGroup(err error, m *format.ColumnMetaData, group int) error {
	if !errors.Is(err, errPage) && !errors.Is(err, errPages) {
		return err
	}
	f := fault.Of(err)
	return fault.New(fault.Unprocessable, "the column %q, in the group of rows %d, from 0: %s", fault.Clip(strings.Join(m.PathInSchema, "."), 80), group, f.Text()).WithCode(f.Code)
}
