package ingest

import (
	"math"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"sluice/internal/platform/fault"
)

// cells are the values that a column has in a row, of a type of their own: none or
// one, or those of a list.
type cells struct {
	values   []parquet.Value
	floats   []byte // instead of values, where they are nothing but 32-bit floats: these, little-endian
	unsigned bool   // its whole numbers are
	meaning  meaning
}

// typedRows puts rows of typed columns into chunks.
type typedRows struct {
	spec    *Spec
	layout  places
	columns []*cells // that are wanted
	most    int64    // bytes of a row
	pace    pace
}

func newTypedRows(s *Spec, o Options) typedRows {
	return typedRows{spec: s, layout: layout(s), most: int64(o.MaxRow), pace: pace{yield: o.Yield}}
}

// add adds a row to the chunk, of which one that is too large keeps nothing.
func (r *typedRows) add(c *Chunk, large bool) {
	row := c.Rows
	c.Rows++
	if large {
		r.blank(c)
		wrong := bad(CodeTooLarge, "the row has more than %d bytes", r.most)
		wrong.Row = row
		c.Errors = append(c.Errors, *wrong)
		return
	}
	var wrong *RowError
	if p := r.layout.id; p >= 0 {
		if text, is, _ := r.columns[p].shown(); is && text != "" && len(text) <= maxID && encoded([]byte(text)) == nil {
			c.IDs.AppendString(text)
		} else {
			c.IDs.AppendNull()
			wrong = bad(CodeID, "the row's name is not there, is no text, or has more than %d bytes", maxID)
			wrong.Column = r.spec.ID
		}
	}
	for i, p := range r.layout.keep {
		text, is, e := r.columns[p].shown()
		if e == nil {
			e = encoded([]byte(text))
		}
		if e != nil {
			is = false
			if e.Column = r.spec.Keep[i]; wrong == nil {
				wrong = e
			}
		}
		if is {
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

// lose adds a row that cannot be read.
func (r *typedRows) lose(c *Chunk, wrong *RowError) {
	r.blank(c)
	e := *wrong
	e.Row = c.Rows
	c.Errors = append(c.Errors, e)
	c.Rows++
}

// lost is the error of rows in a part of the file that is damaged.
func lost(err error) *RowError {
	return bad(CodeLost, "the row is in a part of the file that cannot be read: %s", fault.Of(err).Text())
}

// blank adds a row of which nothing is shown.
func (r *typedRows) blank(c *Chunk) {
	if r.layout.id >= 0 {
		c.IDs.AppendNull()
	}
	for i := range c.Kept {
		c.Kept[i].AppendNull()
	}
}

// tensors adds the row's elements to all tensors, or to none.
func (r *typedRows) tensors(c *Chunk) *RowError {
	for i := range c.Tensors {
		t, in := &c.Tensors[i], &r.spec.Inputs[i]
		before, n := len(t.Data), 0
		var wrong *RowError
		column := 0
		for j, p := range r.layout.inputs[i] {
			column = j
			if row := r.columns[p].floats; row != nil {
				if n += len(row) / 4; n <= in.Width {
					t.Data, wrong = appendFloats(t.Data, in.Type, row)
				}
			}
			for _, v := range r.columns[p].values {
				if n++; n > in.Width {
					break
				}
				if t.Data, wrong = r.columns[p].appendElement(t.Data, in.Type, v); wrong != nil {
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

// appendElement appends the element that a value of the column is.
func (l *cells) appendElement(dst []byte, t Type, v parquet.Value) ([]byte, *RowError) {
	switch {
	case v.IsNull():
		return dst, bad(CodeMissing, "there is no value")
	case l.meaning.is():
		return l.meaning.appendElement(dst, t, v)
	}
	return appendValue(dst, t, v, l.unsigned)
}

// appendValue appends the element that a value is whose bytes say what it is.
func appendValue(dst []byte, t Type, v parquet.Value, unsigned bool) ([]byte, *RowError) {
	switch k := v.Kind(); {
	case k == parquet.ByteArray && t == Bytes:
		return appendBytes(dst, v.ByteArray()), nil
	case k == parquet.Boolean && t == "BOOL":
		return appendBool(dst, strconv.AppendBool(nil, v.Boolean()))
	case k == parquet.ByteArray || k == parquet.Boolean || t == Bytes || t == "BOOL":
		return dst, bad(CodeType, "%s cannot be %s: write the column as %s", kinds[k], t, written(t))
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

// kinds are what values are called in errors; all others are numbers.
var kinds = map[parquet.Kind]string{
	parquet.ByteArray: "a text", parquet.Boolean: "true or false",
	parquet.Int32: "a number", parquet.Int64: "a number", parquet.Float: "a number", parquet.Double: "a number",
}

// written is as what a column of a type of its own is written whose values can be t.
func written(t Type) string {
	switch t {
	case Bytes:
		return "texts"
	case "BOOL":
		return "booleans"
	}
	return "numbers"
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
func (l *cells) shown() (text string, is bool, wrong *RowError) {
	if len(l.values) != 1 || l.values[0].IsNull() {
		return "", false, nil
	}
	v := l.values[0]
	switch k := v.Kind(); {
	case l.meaning.is():
		text, ok := l.meaning.show(nil, v)
		if !ok {
			return "", false, l.meaning.wrong()
		}
		return string(text), true, nil
	case k == parquet.ByteArray:
		return string(v.ByteArray()), true, nil
	case l.unsigned && (k == parquet.Int32 || k == parquet.Int64):
		_, n := whole(v)
		return strconv.FormatUint(n, 10), true, nil
	}
	return v.String(), true, nil
}
