package oipgrpc

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Field numbers of InferTensorContents.
const (
	boolContents protowire.Number = iota + 1
	intContents
	int64Contents
	uintContents
	uint64Contents
	fp32Contents
	fp64Contents
	bytesContents
)

var contentsNames = [...]string{
	boolContents: "bool_contents", intContents: "int_contents", int64Contents: "int64_contents", uintContents: "uint_contents",
	uint64Contents: "uint64_contents", fp32Contents: "fp32_contents", fp64Contents: "fp64_contents", bytesContents: "bytes_contents",
}

// contentsField says which field holds the elements of a type; 0 for the types
// that have no typed form.
func contentsField(d tensor.Datatype) protowire.Number {
	switch d {
	case tensor.Bool:
		return boolContents
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return intContents
	case tensor.Int64:
		return int64Contents
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return uintContents
	case tensor.Uint64:
		return uint64Contents
	case tensor.FP32:
		return fp32Contents
	case tensor.FP64:
		return fp64Contents
	case tensor.Bytes:
		return bytesContents
	}
	return 0
}

// contents converts an encoded InferTensorContents to binary tensor data.
type contents struct {
	datatype tensor.Datatype
	field    protowire.Number
	want     int64 // elements that the shape calls for
	got      int64
	data     []byte
}

// view returns the tensor data where it already lies in the message in binary
// form: packed floats in one piece.
func (c *contents) view(encoded []byte) ([]byte, bool) {
	if c.datatype != tensor.FP32 && c.datatype != tensor.FP64 {
		return nil, false
	}
	r := reader{rest: encoded}
	if !r.next() || r.field != c.field || r.kind != protowire.BytesType || len(r.rest) > 0 {
		return nil, false
	}
	return r.bytes, int64(len(r.bytes)) == c.want*int64(c.datatype.Size())
}

// append appends the tensor data to c.data.
func (c *contents) append(encoded []byte) error {
	r := reader{rest: encoded}
	for r.next() {
		if r.field < boolContents || r.field > bytesContents {
			continue
		}
		if r.field != c.field {
			return fault.New(fault.Invalid, "%s data belongs in %s, not in %s", c.datatype, contentsNames[c.field], contentsNames[r.field])
		}
		if err := c.value(&r); err != nil {
			return err
		}
		if c.got > c.want {
			break
		}
	}
	if r.err != nil {
		return r.err
	}
	if c.got > c.want {
		return fault.New(fault.Invalid, "the shape calls for %d elements, %s has more", c.want, contentsNames[c.field])
	}
	if c.got < c.want {
		return fault.New(fault.Invalid, "the shape calls for %d elements, %s has %d", c.want, contentsNames[c.field], c.got)
	}
	return nil
}

// value takes one occurrence of the field: a single element or a packed run.
// An occurrence of another wire type than the field's is an unknown field.
func (c *contents) value(r *reader) error {
	switch {
	case c.field == bytesContents:
		if r.kind == protowire.BytesType {
			c.data = tensor.AppendBytes(c.data, r.bytes)
			c.got++
		}
	case c.field == fp32Contents && r.kind == protowire.Fixed32Type:
		c.data = binary.LittleEndian.AppendUint32(c.data, uint32(r.num))
		c.got++
	case c.field == fp64Contents && r.kind == protowire.Fixed64Type:
		c.data = binary.LittleEndian.AppendUint64(c.data, r.num)
		c.got++
	case c.field == fp32Contents || c.field == fp64Contents:
		if r.kind == protowire.BytesType {
			return c.floats(r.bytes)
		}
	case r.kind == protowire.VarintType:
		return c.integer(r.num)
	case r.kind == protowire.BytesType:
		return c.integers(r.bytes)
	}
	return nil
}

func (c *contents) floats(packed []byte) error {
	size := c.datatype.Size()
	if len(packed)%size != 0 {
		return fault.New(fault.Invalid, "%s has %d bytes, which is no whole number of elements", contentsNames[c.field], len(packed))
	}
	c.got += int64(len(packed) / size)
	if c.got <= c.want { // else it is refused, and there is no room
		c.data = append(c.data, packed...)
	}
	return nil
}

func (c *contents) integers(packed []byte) error {
	for len(packed) > 0 && c.got <= c.want {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := c.integer(v); err != nil {
			return err
		}
		packed = packed[n:]
	}
	return nil
}

// integer appends one element. As everywhere in protobuf, a 32-bit field keeps
// the low half of its varint.
func (c *contents) integer(v uint64) error {
	c.got++
	if c.got > c.want {
		return nil
	}
	low, high := int64(0), int64(0)
	switch c.datatype {
	case tensor.Bool:
		c.data = append(c.data, b2u(v != 0))
		return nil
	case tensor.Int32, tensor.Uint32:
		c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v))
		return nil
	case tensor.Int64, tensor.Uint64:
		c.data = binary.LittleEndian.AppendUint64(c.data, v)
		return nil
	case tensor.Int8:
		low, high = math.MinInt8, math.MaxInt8
	case tensor.Int16:
		low, high = math.MinInt16, math.MaxInt16
	case tensor.Uint8:
		high = math.MaxUint8
	case tensor.Uint16:
		high = math.MaxUint16
	}
	n := int64(int32(v))
	if c.field == uintContents {
		n = int64(uint32(v))
	}
	if n < low || n > high {
		return fault.New(fault.Invalid, "element %d is %d, which is not in the range of %s, %d to %d", c.got-1, n, c.datatype, low, high)
	}
	if c.datatype.Size() == 1 {
		c.data = append(c.data, byte(n))
	} else {
		c.data = binary.LittleEndian.AppendUint16(c.data, uint16(n))
	}
	return nil
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}
