package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"

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

// guarded runs f, whose panics and errors are those of a damaged file.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
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
	f.Columns = nil
	for _, c := range file.Root().Columns() {
		f.Columns = append(f.Columns, c.Name())
	}
	if err := f.lacks(s); err != nil {
		return f, err
	}
	for _, name := range s.columns() {
		if _, err := leafOf(file, name); err != nil {
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
	if len(found) != 1 {
		return parquet.LeafColumn{}, fault.New(fault.Unprocessable, "the column %q has fields of its own: only values and lists of values can be read", fault.Clip(name, 80)).WithCode("column_type")
	}
	t := found[0].Node.Type()
	if k := t.Kind(); k == parquet.Int96 || k == parquet.FixedLenByteArray || strings.HasPrefix(t.String(), "DECIMAL") {
		return found[0], fault.New(fault.Unprocessable, "the column %q is of the type %s, which cannot be read: write it as a number or a text", fault.Clip(name, 80), t).WithCode("column_type")
	}
	return found[0], nil
}

// parquetReader reads a Parquet file by columns. A position's offset is the row.
type parquetReader struct {
	file   *parquet.File
	raw    io.ReaderAt
	spec   *Spec
	leaves []*leaf
	layout places
	at     Position
	size   int64 // bytes of a row, about
}

func openParquet(ctx context.Context, src Source, s *Spec, at Position) (r Reader, err error) {
	err = guarded(func() error { r, err = newParquet(ctx, src, s, at); return err })
	return r, err
}

func newParquet(ctx context.Context, src Source, s *Spec, at Position) (Reader, error) {
	file, raw, err := openFile(ctx, src)
	if err != nil {
		return nil, err
	}
	r := &parquetReader{file: file, raw: raw, spec: s, layout: layout(s), at: at}
	for _, name := range s.columns() {
		column, err := leafOf(file, name)
		if err != nil {
			return nil, err
		}
		r.leaves = append(r.leaves, &leaf{column: column.ColumnIndex, buf: make([]parquet.Value, 1024)})
	}
	bytes := int64(0)
	for _, g := range file.Metadata().RowGroups {
		bytes += g.TotalByteSize
	}
	r.size = max(1, bytes/max(file.NumRows(), 1))
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
	return nil
}

// Read implements Reader. A chunk is of one group of rows.
func (r *parquetReader) Read(c *Chunk, l Limit) error {
	return guarded(func() error { return r.read(c, l) })
}

func (r *parquetReader) read(c *Chunk, l Limit) error {
	c.reset(r.spec, table.String)
	first, group := r.at.Row, -1
	groups := r.file.RowGroups()
	for i, g := range groups {
		if first < g.NumRows() {
			group = i
			break
		}
		first -= g.NumRows()
	}
	if group < 0 {
		return io.EOF
	}
	c.Rows = int(max(1, min(int64(l.Rows), groups[group].NumRows()-first, l.Bytes/r.size)))
	for _, leaf := range r.leaves {
		err := leaf.read(r.file, r.raw, group, first, c.Rows)
		if errors.Is(err, io.EOF) {
			err = damaged(io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
	for row := range c.Rows {
		r.add(c, row)
	}
	r.at.Row += int64(c.Rows)
	r.at.Offset = r.at.Row
	return nil
}

// add adds a row to the chunk.
func (r *parquetReader) add(c *Chunk, row int) {
	var wrong *RowError
	if p := r.layout.id; p >= 0 {
		if text, is := shownValue(r.leaves[p].row(row)); is && text != "" && len(text) <= maxID {
			c.IDs.AppendString(text)
		} else {
			c.IDs.AppendNull()
			wrong = bad(CodeID, "the row's name is not there, or has more than %d bytes", maxID)
			wrong.Column = r.spec.ID
		}
	}
	for i, p := range r.layout.keep {
		if text, is := shownValue(r.leaves[p].row(row)); is {
			c.Kept[i].AppendString(text)
		} else {
			c.Kept[i].AppendNull()
		}
	}
	if wrong == nil {
		wrong = r.tensors(c, row)
	}
	if wrong == nil {
		c.Good = append(c.Good, row)
		return
	}
	wrong.Row = row
	c.Errors = append(c.Errors, *wrong)
}

// tensors adds the row's elements to all tensors, or to none.
func (r *parquetReader) tensors(c *Chunk, row int) *RowError {
	for i := range c.Tensors {
		t, in := &c.Tensors[i], &r.spec.Inputs[i]
		before, n := len(t.Data), 0
		var wrong *RowError
		column := 0
		for j, p := range r.layout.inputs[i] {
			column = j
			for _, v := range r.leaves[p].row(row) {
				if n++; n > in.Width {
					break
				}
				if t.Data, wrong = appendValue(t.Data, in.Type, v); wrong != nil {
					break
				}
			}
			if wrong != nil {
				break
			}
		}
		if wrong == nil && n != in.Width {
			wrong = bad(CodeShape, "the row has not %d elements", in.Width)
		}
		if wrong == nil {
			t.ends = append(t.ends, len(t.Data))
			continue
		}
		t.Data = t.Data[:before]
		for j := range i {
			c.Tensors[j].drop()
		}
		wrong.Column = in.Columns[column]
		return wrong
	}
	return nil
}

// appendValue appends the element that a value is.
func appendValue(dst []byte, t Type, v parquet.Value) ([]byte, *RowError) {
	if v.IsNull() {
		return dst, bad(CodeMissing, "there is no value")
	}
	switch k := v.Kind(); {
	case k == parquet.ByteArray && t == Bytes:
		return appendBytes(dst, v.ByteArray()), nil
	case k == parquet.Boolean && t == "BOOL":
		return appendBool(dst, strconv.AppendBool(nil, v.Boolean()))
	case k == parquet.ByteArray || k == parquet.Boolean || t == Bytes || t == "BOOL":
		return dst, bad(CodeType, "a value of the type %s cannot be %s", k, t)
	case k == parquet.Float && t == "FP32":
		return appendInt(dst, 32, uint64(math.Float32bits(v.Float()))), nil
	case k == parquet.Float || k == parquet.Double:
		x := v.Double()
		if k == parquet.Float {
			x = float64(v.Float())
		}
		return appendReal(dst, t, x)
	}
	n := v.Int64()
	if v.Kind() == parquet.Int32 {
		n = int64(v.Int32())
	}
	switch t {
	case "FP32", "FP64":
		return appendReal(dst, t, float64(n))
	}
	return appendNumber(dst, t, strconv.AppendInt(nil, n, 10))
}

// appendReal appends a floating-point number; to a type of whole ones where it is one.
func appendReal(dst []byte, t Type, x float64) ([]byte, *RowError) {
	switch t {
	case "FP32":
		if f := float32(x); !math.IsInf(float64(f), 0) || math.IsInf(x, 0) {
			return appendInt(dst, 32, uint64(math.Float32bits(f))), nil
		}
		return dst, bad(CodeRange, "%g is out of the range of FP32", x)
	case "FP64":
		return appendInt(dst, 64, math.Float64bits(x)), nil
	}
	if x != math.Trunc(x) || math.Abs(x) >= 1<<63 {
		return dst, bad(CodeType, "%g is no whole number", x)
	}
	return appendNumber(dst, t, strconv.AppendFloat(nil, x, 'f', -1, 64))
}

// shownValue is the text of a cell that has one value.
func shownValue(values []parquet.Value) (string, bool) {
	if len(values) != 1 || values[0].IsNull() {
		return "", false
	}
	v := values[0]
	if v.Kind() == parquet.ByteArray {
		text := v.ByteArray()
		return string(text), encoded(text) == nil
	}
	return v.String(), true
}
