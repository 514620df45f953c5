package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

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
	f.Columns, f.Rows = nil, file.NumRows()
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
	if k := t.Kind(); k == parquet.Int96 || k == parquet.FixedLenByteArray || slices.ContainsFunc(untold, func(s string) bool { return strings.HasPrefix(t.String(), s) }) {
		return found[0], fault.New(fault.Unprocessable, "the column %q is of the type %s, which cannot be read: write it as a number or a text", fault.Clip(name, 80), t).WithCode("column_type")
	}
	return found[0], nil
}

// untold are logical types whose values are not what their bare numbers say.
var untold = []string{"DECIMAL", "DATE", "TIME", "INTERVAL"}

// unsigned says whether a column's whole numbers have no sign, though they are kept in
// types that have one.
func unsigned(c parquet.LeafColumn) bool {
	l := c.Node.Type().LogicalType()
	if l == nil {
		return false
	}
	i, is := l.Value.(*format.IntType)
	return is && !i.IsSigned
}

// parquetReader reads a Parquet file by columns. A position's offset is the row.
type parquetReader struct {
	file   *parquet.File
	raw    io.ReaderAt
	spec   *Spec
	leaves []*leaf
	layout places
	at     Position
	most   int64 // bytes of a row
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
	r := &parquetReader{file: file, raw: raw, spec: s, layout: layout(s), at: at, most: int64(o.MaxRow)}
	for _, name := range s.columns() {
		column, err := leafOf(file, name)
		if err != nil {
			return nil, err
		}
		r.leaves = append(r.leaves, &leaf{column: column.ColumnIndex, flat: column.MaxRepetitionLevel == 0, unsigned: unsigned(column), buf: make([]parquet.Value, 1024)})
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
	rows := min(int64(l.Rows), groups[group].NumRows()-first)
	for size := int64(0); int64(c.Rows) < rows && (c.Rows == 0 || size < l.Bytes); c.Rows++ {
		n, err := r.next(group, first+int64(c.Rows))
		if errors.Is(err, io.EOF) {
			err = damaged(io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		size += n
		r.add(c, c.Rows, n > r.most)
	}
	r.at.Row += int64(c.Rows)
	r.at.Offset = r.at.Row
	return nil
}

// next reads a row of a group, and returns the bytes that it takes as it is decoded:
// what dictionaries and run lengths say once counts as often as it is there.
func (r *parquetReader) next(group int, row int64) (size int64, err error) {
	for _, l := range r.leaves {
		if err := l.seek(r.file, r.raw, group, row); err != nil {
			return size, err
		}
		n, err := l.read(r.most)
		if size += n; err != nil {
			return size, err
		}
	}
	return size, nil
}

// add adds a row to the chunk, of which one that is too large keeps nothing.
func (r *parquetReader) add(c *Chunk, row int, large bool) {
	if large {
		r.blank(c)
		wrong := bad(CodeTooLarge, "the row has more than %d bytes", r.most)
		wrong.Row = row
		c.Errors = append(c.Errors, *wrong)
		return
	}
	var wrong *RowError
	if p := r.layout.id; p >= 0 {
		if text, is := r.leaves[p].shown(); is && text != "" && len(text) <= maxID {
			c.IDs.AppendString(text)
		} else {
			c.IDs.AppendNull()
			wrong = bad(CodeID, "the row's name is not there, or has more than %d bytes", maxID)
			wrong.Column = r.spec.ID
		}
	}
	for i, p := range r.layout.keep {
		if text, is := r.leaves[p].shown(); is {
			c.Kept[i].AppendString(text)
		} else {
			c.Kept[i].AppendNull()
		}
	}
	if wrong == nil {
		wrong = r.tensors(c)
	}
	if wrong == nil {
		c.Good = append(c.Good, row)
		return
	}
	wrong.Row = row
	c.Errors = append(c.Errors, *wrong)
}

// blank adds a row of which nothing is shown.
func (r *parquetReader) blank(c *Chunk) {
	if r.layout.id >= 0 {
		c.IDs.AppendNull()
	}
	for i := range c.Kept {
		c.Kept[i].AppendNull()
	}
}

// tensors adds the row's elements to all tensors, or to none.
func (r *parquetReader) tensors(c *Chunk) *RowError {
	for i := range c.Tensors {
		t, in := &c.Tensors[i], &r.spec.Inputs[i]
		before, n := len(t.Data), 0
		var wrong *RowError
		column := 0
		for j, p := range r.layout.inputs[i] {
			column = j
			for _, v := range r.leaves[p].values {
				if n++; n > in.Width {
					break
				}
				if t.Data, wrong = appendValue(t.Data, in.Type, v, r.leaves[p].unsigned); wrong != nil {
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
func appendValue(dst []byte, t Type, v parquet.Value, unsigned bool) ([]byte, *RowError) {
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
	switch signed, n := whole(v); {
	case unsigned && (t == "FP32" || t == "FP64"):
		return appendReal(dst, t, float64(n))
	case t == "FP32" || t == "FP64":
		return appendReal(dst, t, float64(signed))
	case unsigned:
		return appendNumber(dst, t, strconv.AppendUint(nil, n, 10))
	default:
		return appendNumber(dst, t, strconv.AppendInt(nil, signed, 10))
	}
}

// whole returns a whole number by its bits, with a sign and without.
func whole(v parquet.Value) (signed int64, unsigned uint64) {
	if v.Kind() == parquet.Int32 {
		return int64(v.Int32()), uint64(v.Uint32())
	}
	return v.Int64(), v.Uint64()
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

// shown is the text of a row that has one value.
func (l *leaf) shown() (string, bool) {
	if len(l.values) != 1 || l.values[0].IsNull() {
		return "", false
	}
	v := l.values[0]
	switch k := v.Kind(); {
	case k == parquet.ByteArray:
		text := v.ByteArray()
		return string(text), encoded(text) == nil
	case l.unsigned && (k == parquet.Int32 || k == parquet.Int64):
		_, n := whole(v)
		return strconv.FormatUint(n, 10), true
	}
	return v.String(), true
}
