// Package parquet writes tables as Parquet: typed, optional columns, in row
// groups that bound its memory.
package parquet

import (
	"cmp"
	"io"
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// Options say how a file is written.
type Options struct {
	// Compression of pages: "zstd" (also where empty), "snappy", "gzip" or "none".
	Compression string
	// Metadata is kept in the file's footer.
	Metadata map[string]string

	groupRows int // of a row group; 0 is maxGroupRows
}

// What ends a row group: so many rows, or bytes before its last pages are compressed.
const (
	maxGroupRows  = 1 << 17
	maxGroupBytes = 32 << 20
)

// fastest costs a third of the default's time for a tenth more bytes.
var fastest = zstd.Codec{Level: zstd.SpeedFastest}

var codecs = map[string]compress.Codec{
	"": &fastest, "zstd": &fastest, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "none": &parquet.Uncompressed,
}

// Check returns what is wrong with the options, as a fault of kind Invalid.
func (o Options) Check() error {
	if codecs[o.Compression] == nil {
		return fault.New(fault.Invalid, "a Parquet file is compressed with zstd, snappy, gzip or none, not %.20q", o.Compression).WithCode("option_invalid")
	}
	return nil
}

// Writer writes a table. It is not for concurrent use.
type Writer struct {
	o      Options
	file   *parquet.GenericWriter[any]
	values []parquet.Value
	rows   int   // in the row group
	start  int64 // of the row group in the file
	err    error // the first failure, which stays
}

// NewWriter returns a writer. The options must be right (see Check).
func NewWriter(out io.Writer, schema table.Schema, o Options) *Writer {
	o.groupRows = cmp.Or(o.groupRows, maxGroupRows)
	options := []parquet.WriterOption{
		parquet.NewSchema("table", rootOf(schema)), parquet.Compression(codecs[o.Compression]),
		parquet.CreatedBy("sluice", "1", ""), // not of the build: the bytes depend on the rows alone
		parquet.PageBufferSize(256 << 10),
		parquet.DictionaryMaxBytes(64 << 10), // ids leave the dictionary soon, labels never
	}
	for k, v := range o.Metadata {
		options = append(options, parquet.KeyValueMetadata(k, v))
	}
	return &Writer{o: o, file: parquet.NewGenericWriter[any](out, options...)}
}

// What is handed to the library at once: rows, and of lists about so many values.
const (
	step       = 1024
	stepValues = 16 << 10
)

// Write implements table.Writer.
func (w *Writer) Write(c *table.Chunk) error {
	if w.err == nil {
		w.err = c.Check()
	}
	columns := w.file.ColumnWriters()
	for from := 0; from < c.Rows() && w.err == nil; from += step {
		to := min(from+step, c.Rows())
		for i, column := range columns {
			for row := from; row < to && w.err == nil; {
				if row, w.err = w.fill(c, i, row, to); w.err == nil {
					_, w.err = column.WriteRowValues(w.values)
				}
			}
			if w.err != nil {
				return w.err
			}
		}
		w.rows += to - from
		if w.rows >= w.o.groupRows || w.file.Size()-w.start >= maxGroupBytes {
			w.flush()
		}
	}
	return w.err
}

func (w *Writer) flush() {
	w.err = w.file.Flush()
	w.rows, w.start = 0, w.file.Size()
}

// Close implements table.Writer.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.file.Close()
	}
	return w.err
}

// fill makes values of some rows of a column, and returns the row behind them. Texts are
// borrowed: the library copies them.
func (w *Writer) fill(chunk *table.Chunk, i, from, to int) (row int, err error) {
	w.values = w.values[:0]
	c, items := chunk.Column(i), chunk.Schema()[i].Items
	for row = from; row < to && len(w.values) < stepValues; row++ {
		if c.Null(row) {
			w.values = append(w.values, parquet.NullValue().Level(0, 0, i))
			continue
		}
		if items != 0 {
			if w.values, err = appendList(w.values, c.Text(row), items, i); err != nil {
				return row, err
			}
			continue
		}
		var v parquet.Value
		switch c.Type {
		case table.String, table.JSON:
			v = parquet.ByteArrayValue(c.Text(row))
		case table.Float:
			v = parquet.DoubleValue(c.Floats[row])
		case table.Float32:
			v = parquet.FloatValue(c.Float32s[row])
		case table.Bool:
			v = parquet.BooleanValue(c.Bools[row])
		default:
			v = parquet.Int64Value(c.Ints[row])
		}
		w.values = append(w.values, v.Level(0, 1, i))
	}
	return row, nil
}

// root is the group of a schema's columns in their own order: the library's
// sorts them by name.
type root struct {
	parquet.Group
	fields []parquet.Field
}

func (r root) Fields() []parquet.Field { return r.fields }

// GoType implements parquet.Node. No Go value is ever written, only columns, so
// that names need not be such that a Go field can have them.
func (root) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

type field struct {
	parquet.Node
	name string
}

func (f field) Name() string                         { return f.name }
func (field) Value(base reflect.Value) reflect.Value { return base }

func rootOf(schema table.Schema) parquet.Node {
	r := root{Group: parquet.Group{}}
	for _, f := range schema {
		node := parquet.Optional(nodeOf(f.Type))
		if f.Items != 0 {
			node = listOf(f.Items)
		}
		r.fields = append(r.fields, field{Node: node, name: f.Name})
	}
	return r
}

func nodeOf(t table.Type) parquet.Node {
	switch t {
	case table.String:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	case table.JSON:
		return parquet.JSON()
	case table.Float:
		return parquet.Leaf(parquet.DoubleType)
	case table.Float32:
		return parquet.Leaf(parquet.FloatType)
	case table.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case table.Time:
		return parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)
	default:
		return parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
	}
}
