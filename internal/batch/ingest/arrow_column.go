package ingest

import (
	"bytes"
	"errors"
	"io"
	"math"

	"github.com/parquet-go/parquet-go"
)

// arrowColumn reads a field of a record batch, value by value.
type arrowColumn struct {
	field *arrowField
	valid *arrowBuffer // nil: all are
	ends  *arrowBuffer // of texts and lists: where each ends in what is below
	last  int64        // of them, that was read
	data  *arrowBuffer
	child *arrowColumn
	words []parquet.Value // that numbers stand for
	pool  *arrowPool      // of views

	cells
	size  int64  // bytes of the row
	most  int64  // of them that are kept
	arena []byte // of the row's texts
}

func (c *arrowColumn) close() {
	if c == nil {
		return
	}
	c.valid.close()
	c.ends.close()
	c.data.close()
	c.child.close()
}

// arrowPlace is where the buffers of a field begin in a batch.
type arrowPlace struct {
	buffer int
	view   int // fields of views before it
}

// behind is the place behind some buffers.
func (p arrowPlace) behind(buffers int) arrowPlace { p.buffer += buffers; return p }

// column opens a field, whose buffers are at a place, before a row.
func (o *arrowOpener) column(f *arrowField, place arrowPlace, row int64) (c *arrowColumn, err error) {
	at := place.buffer
	c = &arrowColumn{field: f, cells: cells{unsigned: f.leaf().unsigned, meaning: f.leaf().meaning}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if f.kind == arrowNull {
		return c, nil
	}
	if c.valid, err = o.bits(at, row); err != nil {
		return c, err
	}
	switch {
	case f.kind == arrowBool:
		c.data, err = o.bits(at+1, row)
	case f.fixed():
		c.data, err = o.from(at+1, row*int64(f.bits/8))
	case f.views():
		if c.data, err = o.from(at+1, row*viewSize); err == nil {
			c.pool = &arrowPool{o: o, first: at + 2, count: o.views[place.view]}
		}
	case f.kind == arrowFixedList:
		if row > math.MaxInt64/max(int64(f.width), 1) {
			return c, io.ErrUnexpectedEOF
		}
		c.child, err = o.column(&f.children[0], place.behind(1), row*int64(f.width))
	default:
		if c.ends, err = o.from(at+1, row*int64(f.offset()/8)); err != nil || c.ends == nil {
			return c, err
		}
		first, err := c.ends.number(f.offset())
		c.last = int64(first)
		switch {
		case err != nil:
			return c, err
		case c.last < 0:
			return c, io.ErrUnexpectedEOF
		case f.kind == arrowList || f.kind == arrowLargeList:
			c.child, err = o.column(&f.children[0], place.behind(2), c.last)
		default:
			c.data, err = o.from(at+2, c.last)
		}
		return c, err
	}
	return c, err
}

// from opens a buffer at an offset.
func (o *arrowOpener) from(i int, offset int64) (*arrowBuffer, error) {
	b, at, err := o.open(i, offset)
	if err == nil && b != nil {
		err = b.skip(offset - at)
	}
	return b, err
}

// bits opens a buffer of bits at one of them.
func (o *arrowOpener) bits(i int, bit int64) (*arrowBuffer, error) {
	b, _, err := o.open(i, 0)
	if err == nil && b != nil {
		err = b.skipBits(bit)
	}
	return b, err
}

// offset is the bits of an offset.
func (f *arrowField) offset() int {
	if f.kind == arrowLargeBin || f.kind == arrowLargeText || f.kind == arrowLargeList {
		return 64
	}
	return 32
}

// read reads the next row, whose values are valid until the next call.
func (c *arrowColumn) read(most int64) error {
	c.values, c.arena, c.size, c.most = c.values[:0], c.arena[:0], 0, most
	return c.next(c)
}

// next adds a value, or those of a list, to the row of a column.
func (c *arrowColumn) next(row *arrowColumn) error {
	const each = 8
	row.size += each
	valid := c.field.kind != arrowNull
	if c.valid != nil {
		var err error
		if valid, err = c.valid.nextBit(); err != nil {
			return err
		}
	}
	v, err := c.value(row, valid)
	if err != nil || c.child != nil && valid {
		return err
	}
	if c.field.values != nil && valid { // as often as the word is there
		row.size += int64(len(textOf(v)))
	}
	if !valid {
		v = parquet.NullValue()
	}
	if row.size <= row.most {
		row.values = append(row.values, v)
	}
	return nil
}

// value reads what is in the place of a value, also where that counts for nothing.
func (c *arrowColumn) value(row *arrowColumn, valid bool) (v parquet.Value, err error) {
	switch f := c.field; {
	case f.kind == arrowNull:
		return v, nil
	case f.kind == arrowFixedList:
		return v, c.elements(row, int64(f.width), valid)
	case c.data == nil && (f.kind == arrowBool || f.fixed() || f.views()):
		return v, io.ErrUnexpectedEOF
	case f.kind == arrowBool:
		set, err := c.data.nextBit()
		return parquet.BooleanValue(set), err
	case f.views():
		return c.view(row, valid)
	case f.bits > 64:
		return c.text(row, int64(f.bits/8), valid)
	case f.fixed():
		bits, err := c.data.number(c.field.bits)
		if err != nil || !valid {
			return v, err
		}
		return c.number(bits)
	}
	n, err := c.length()
	if err != nil {
		return v, err
	}
	if c.child != nil {
		return v, c.elements(row, n, valid)
	}
	return c.text(row, n, valid)
}

// number is the value that some bits are.
func (c *arrowColumn) number(bits uint64) (v parquet.Value, err error) {
	f := c.field
	signed := int64(bits<<(64-f.bits)) >> (64 - f.bits)
	switch {
	case f.values != nil:
		if f.unsigned && f.bits < 64 {
			signed = int64(bits)
		}
		if signed < 0 || signed >= int64(len(c.words)) {
			return v, errors.New("a number stands for nothing in its dictionary")
		}
		return c.words[signed], nil
	case f.kind == arrowFloat && f.bits == 16:
		return parquet.FloatValue(fromHalf(uint16(bits))), nil
	case f.kind == arrowFloat && f.bits == 32:
		return parquet.FloatValue(math.Float32frombits(uint32(bits))), nil
	case f.kind == arrowFloat:
		return parquet.DoubleValue(math.Float64frombits(bits)), nil
	case f.unsigned:
		return parquet.Int64Value(int64(bits)), nil
	}
	return parquet.Int64Value(signed), nil
}

// length reads how long a text or a list is.
func (c *arrowColumn) length() (int64, error) {
	if c.ends == nil {
		return 0, io.ErrUnexpectedEOF
	}
	end, err := c.ends.number(c.field.offset())
	if err != nil {
		return 0, err
	}
	n := int64(end) - c.last
	if n < 0 {
		return 0, errors.New("a text or a list ends before it begins")
	}
	c.last = int64(end)
	return n, nil
}

// text reads a text of n bytes; one that is too large is passed over.
func (c *arrowColumn) text(row *arrowColumn, n int64, valid bool) (v parquet.Value, err error) {
	if n == 0 {
		return parquet.ByteArrayValue(nil), nil
	}
	if c.data == nil {
		return v, io.ErrUnexpectedEOF
	}
	if valid {
		row.size += n
	}
	if !valid || row.size > row.most {
		return v, c.data.skip(n)
	}
	text := row.room(n)
	if _, err := io.ReadFull(c.data, text); err != nil {
		return v, short(err)
	}
	return parquet.ByteArrayValue(text), nil
}

// room is memory for n bytes of the row.
func (c *arrowColumn) room(n int64) []byte {
	begin := len(c.arena)
	c.arena = append(c.arena, make([]byte, n)...)
	return c.arena[begin:]
}

// maxElements is how many elements of a list are passed over at most.
const maxElements = 1 << 28

// elements reads the n elements of a list; those of one that is too large, or that
// is none, are passed over.
func (c *arrowColumn) elements(row *arrowColumn, n int64, valid bool) error {
	if c.child == nil {
		if n == 0 {
			return nil
		}
		return io.ErrUnexpectedEOF
	}
	if n > maxElements {
		return errors.New("a list has too many elements")
	}
	to := row
	if !valid {
		to = &arrowColumn{most: -1}
	}
	for range n {
		if err := c.child.next(to); err != nil {
			return err
		}
	}
	return nil
}

// dictionary reads the values of a dictionary, all of a batch, and returns them behind
// others with the bytes that they take.
func (o *arrowOpener) dictionary(f *arrowField, rows int64, values []parquet.Value, room int64) ([]parquet.Value, int64, error) {
	c, err := o.column(f, arrowPlace{}, 0)
	if err != nil {
		return values, 0, err
	}
	defer c.close()
	size := int64(0)
	for range rows {
		if err := c.read(room - size); err != nil {
			return values, size, err
		}
		if size += c.size + 16; size > room || len(c.values) != 1 {
			return values, size, errDictionary
		}
		v := c.values[0]
		if v.Kind() == parquet.ByteArray && !v.IsNull() {
			v = parquet.ByteArrayValue(bytes.Clone(v.ByteArray()))
		}
		values = append(values, v)
	}
	return values, size, nil
}
