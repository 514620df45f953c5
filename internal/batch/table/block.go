package table

import (
	"encoding/binary"
	"math"

	"sluice/internal/platform/fault"
)

// AppendBlock adds the rows to b, in a form that ReadBlock of the same version of the
// program takes back: for files that do not outlive their process.
func (c *Chunk) AppendBlock(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.Rows()))
	for i := range c.columns {
		b = c.columns[i].appendBlock(b)
	}
	return b
}

func (c *Column) appendBlock(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.nulls)))
	b = appendBools(b, c.nulls)
	switch c.Type {
	case String, JSON:
		for i := range c.ends {
			text := c.Text(i)
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	case Float:
		for _, v := range c.Floats {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	case Float32:
		for _, v := range c.Float32s {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	case Bool:
		b = appendBools(b, c.Bools)
	default:
		for _, v := range c.Ints {
			b = binary.AppendVarint(b, v)
		}
	}
	return b
}

func appendBools(b []byte, values []bool) []byte {
	for _, v := range values {
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// ReadBlock resets the chunk and fills it with the rows of a block. One that is
// damaged is fault.Internal.
func (c *Chunk) ReadBlock(b []byte) error {
	c.Reset()
	r := block{rest: b}
	rows := r.uvarint()
	if rows > uint64(len(b)) {
		r.bad = true
	}
	for i := 0; i < len(c.columns) && !r.bad; i++ {
		c.columns[i].readBlock(&r, int(rows))
	}
	if r.bad || len(r.rest) > 0 {
		c.Reset()
		return fault.New(fault.Internal, "a block of %d bytes holds no rows of this table", len(b))
	}
	return nil
}

func (c *Column) readBlock(r *block, rows int) {
	nulls := r.take(r.uvarint())
	for _, v := range nulls {
		c.nulls = append(c.nulls, v == 1)
	}
	for i := 0; i < rows && !r.bad; i++ {
		switch c.Type {
		case String, JSON:
			c.AppendText(r.take(r.uvarint()))
		case Float:
			c.Floats = append(c.Floats, math.Float64frombits(binary.LittleEndian.Uint64(r.fixed(8))))
		case Float32:
			c.Float32s = append(c.Float32s, math.Float32frombits(binary.LittleEndian.Uint32(r.fixed(4))))
		case Bool:
			c.Bools = append(c.Bools, r.fixed(1)[0] == 1)
		default:
			c.Ints = append(c.Ints, r.varint())
		}
	}
	r.bad = r.bad || len(c.nulls) > rows
}

// block is what has not been read of a block.
type block struct {
	rest []byte
	bad  bool
}

func (r *block) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.skip(n)
	return v
}

func (r *block) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.skip(n)
	return v
}

func (r *block) skip(n int) {
	if n <= 0 {
		r.bad, n = true, 0
	}
	r.rest = r.rest[n:]
}

func (r *block) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

// fixed is take that always has so many bytes.
func (r *block) fixed(n uint64) []byte {
	if out := r.take(n); !r.bad {
		return out
	}
	return make([]byte, n)
}
