package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// openFile opens a Parquet file. What is no Parquet, or damaged, is an error and
// never a panic.
func openFile(ctx context.Context, src Source) (f *parquet.File, r io.ReaderAt, err error) {
	random, ok := src.(Random)
	if !ok {
		return nil, nil, fault.New(fault.Internal, "the source of a Parquet file cannot be read at any place")
	}
	r, size, err := random.File(ctx)
	if err == nil {
		err = complete(r, size)
	}
	if err == nil {
		err = checkFooter(r, size)
	}
	if err != nil {
		return nil, nil, err
	}
	err = guarded(func() (err error) {
		f, err = parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true), parquet.ReadBufferSize(1<<20))
		return err
	})
	if errors.Is(err, io.EOF) {
		err = damaged(err)
	}
	return f, r, err
}

// complete refuses a Parquet file that does not end as one. Where each column of each group
// of rows is, and how its values are encoded, only the footer says, which is written last:
// of a file that was cut off not even the groups that are there can be read.
func complete(r io.ReaderAt, size int64) error {
	const magic = "PAR1"
	var begin, end [len(magic)]byte
	if size < int64(2*len(magic)) {
		return nil // it is told what else is wrong
	}
	if err := readAt(r, begin[:], 0); err != nil {
		return err
	}
	if err := readAt(r, end[:], size-int64(len(magic))); err != nil {
		return err
	}
	if string(begin[:]) != magic || string(end[:]) == magic {
		return nil
	}
	return fault.New(fault.Unprocessable, "the Parquet file is incomplete: it was cut off before its end, where its footer is, without which none of its rows can be read: upload the whole file again, or have it written again").WithCode(codeDamaged)
}

func readAt(r io.ReaderAt, into []byte, at int64) error {
	if n, err := r.ReadAt(into, at); n < len(into) {
		return damaged(err)
	}
	return nil
}

// guarded runs f, whose panics and errors are those of a damaged file.
func guarded(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error: // perhaps of the store, and no damage
			err = damaged(p)
		default:
			err = damaged(fmt.Errorf("%v", p)) //nolint:err113 // it is wrapped at once
		}
	}()
	err = f()
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return damaged(err)
}

func inspectParquet(ctx context.Context, src Source, f File, s *Spec) (_ File, err error) {
	err = guarded(func() error { f, err = describeParquet(ctx, src, f, s); return err })
	return f, err
}

func describeParquet(ctx context.Context, src Source, f File, s *Spec) (File, error) {
	file, _, err := openFile(ctx, src)
	if err != nil {
		return f, err
	}
	if file.NumRows() == 0 {
		return f, fault.New(fault.Unprocessable, "the file has no rows").WithCode("file_empty")
	}
	f.Columns, f.Rows = nil, file.NumRows()
	for _, c := range file.Root().Columns() {
		f.Columns = append(f.Columns, c.Name())
	}
	if err := f.lacks(s); err != nil {
		return f, err
	}
	for _, name := range s.columns() {
		leaf, err := leafOf(file, name)
		if err == nil && leaf.MaxRepetitionLevel > 0 {
			err = s.onlyInput(name)
		}
		if err == nil {
			m, _ := parquetMeaning(file, leaf)
			err = s.fits(name, &m)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// leafOf returns the leaf of a column that is one value in each row, or a list.
func leafOf(file *parquet.File, name string) (parquet.LeafColumn, error) {
	var found []parquet.LeafColumn
	for _, path := range file.Schema().Columns() {
		if path[0] == name {
			leaf, _ := file.Schema().Lookup(path...)
			found = append(found, leaf)
		}
	}
	if len(found) != 1 || !onlyLists(file.Root().Column(name)) {
		return parquet.LeafColumn{}, fault.New(fault.Unprocessable, "the column %q has fields of its own: only values and lists of values can be read", fault.Clip(name, 80)).WithCode("column_type")
	}
	if _, ok := parquetMeaning(file, found[0]); !ok {
		return found[0], fault.New(fault.Unprocessable, "the column %q is of the type %s, which cannot be read: write it as a number or a text", fault.Clip(name, 80), found[0].Node.Type()).WithCode("column_type")
	}
	return found[0], nil
}

// onlyLists says whether a column is nothing but a value, or lists: a field within it is of
// neither, also where there is no other.
func onlyLists(c *parquet.Column) bool {
	for ; !c.Leaf(); c = c.Columns()[0] {
		if _, list := logical(c.Type()).(*format.ListType); !list && !c.Repeated() {
			return false
		}
	}
	return true
}

// unsigned says whether a column's whole numbers have no sign, though they are kept in
// types that have one.
func unsigned(c parquet.LeafColumn) bool {
	i, is := logical(c.Node.Type()).(*format.IntType)
	return is && !i.IsSigned
}

// logical is what the values of a type mean; nil: no more than they say.
func logical(t parquet.Type) format.LogicalTypeValue {
	if l := t.LogicalType(); l != nil {
		return l.Value
	}
	return nil
}

// parquetReader reads a Parquet file by columns. A position's offset is the row.
type parquetReader struct {
	typedRows
	file   *parquet.File
	pages  headers
	leaves []*leaf
	fixed  int64 // bytes of each row that are not read
	at     Position
}

func openParquet(ctx context.Context, src Source, s *Spec, at Position, o Options) (r Reader, err error) {
	err = guarded(func() error { r, err = newParquet(ctx, src, s, at, o); return err })
	return r, err
}

func newParquet(ctx context.Context, src Source, s *Spec, at Position, o Options) (Reader, error) {
	file, raw, err := openFile(ctx, src)
	if err != nil {
		return nil, err
	}
	r := &parquetReader{typedRows: newTypedRows(s, o), file: file, pages: headers{ctx: ctx, raw: raw, size: file.Size()}, at: at}
	for _, name := range s.columns() {
		column, err := leafOf(file, name)
		if err != nil {
			return nil, err
		}
		m, _ := parquetMeaning(file, column)
		l := &leaf{
			cells: cells{unsigned: unsigned(column), meaning: m}, column: column.ColumnIndex,
			flat: column.MaxRepetitionLevel == 0, nested: column.MaxRepetitionLevel > 1, by: decodedBy(file, column),
			input: name != s.ID && !slices.Contains(s.Keep, name), buf: make([]parquet.Value, 1024),
		}
		r.leaves, r.columns = append(r.leaves, l), append(r.columns, &l.cells)
	}
	return r, nil
}

// Position implements Reader.
func (r *parquetReader) Position() Position { return r.at }

// Forward implements Reader.
func (r *parquetReader) Forward(to Position) error { r.at = to; return nil }

// Close implements Reader.
func (r *parquetReader) Close() error {
	for _, l := range r.leaves {
		l.close()
	}
	if c, is := r.pages.raw.(io.Closer); is { // it is opened again by the next read
		return c.Close()
	}
	return nil
}

// Read implements Reader. Where a group of rows is damaged, its rows from there on are
// bad, as far as the chunk goes; the next chunk tries those behind them.
func (r *parquetReader) Read(c *Chunk, l Limit) error {
	c.reset(r.spec, table.String)
	c.reserve(l)
	for size := int64(0); ; {
		err := guarded(func() error { return r.read(c, l, &size) })
		if err != nil {
			_ = guarded(r.Close) // the columns may be at different rows
		}
		group, row := r.group(r.at.Row + int64(c.Rows))
		switch {
		case err != nil && (fault.CodeOf(err) != codeDamaged || group < 0):
			return err
		case err != nil:
			wrong := lost(err)
			for end := r.file.RowGroups()[group].NumRows(); row < end && c.Rows < l.Rows; row++ {
				r.lose(c, wrong)
			}
			continue
		case c.Rows == 0:
			return io.EOF
		}
		r.at.Row += int64(c.Rows)
		r.at.Offset = r.at.Row
		return nil
	}
}

// group returns which group a row of the file is in, and which of its rows it is; -1:
// it is behind the last.
func (r *parquetReader) group(row int64) (group int, in int64) {
	for i, g := range r.file.RowGroups() {
		if row < g.NumRows() {
			return i, row
		}
		row -= g.NumRows()
	}
	return -1, 0
}

func (r *parquetReader) read(c *Chunk, l Limit, size *int64) error {
	groups := r.file.RowGroups()
	group, row := r.group(r.at.Row + int64(c.Rows))
	for ; group >= 0 && c.Rows < l.Rows && (c.Rows == 0 || *size < l.Bytes); row++ {
		for group < len(groups) && row >= groups[group].NumRows() {
			row -= groups[group].NumRows()
			group++
		}
		if group == len(groups) {
			break
		}
		n, err := r.next(group, row)
		if errors.Is(err, io.EOF) {
			err = damaged(io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		*size += n + r.fixed
		r.add(c, n > r.most)
		r.pace.took(n + 1)
	}
	return nil
}

// next reads a row of a group, and returns the bytes that it takes as it is decoded:
// what dictionaries and run lengths say once counts as often as it is there.
func (r *parquetReader) next(group int, row int64) (size int64, err error) {
	if r.pages.group != group {
		r.pages.group, r.pages.kept = group, 0
		for _, l := range r.leaves {
			l.marks = marks{}
		}
	}
	for _, l := range r.leaves {
		if err := l.seek(r.file, &r.pages, group, row); err != nil {
			return size, err
		}
		n, err := l.read(r.most - size)
		if size += n; err != nil {
			return size, err
		}
	}
	return size, nil
}
