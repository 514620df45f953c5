package tensor

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"strconv"

	"sluice/internal/platform/fault"
)

// MaxDims is the most dimensions that a tensor may have on the wire.
const MaxDims = 16

// Shape is the extent of each dimension. On the wire every extent is >= 0; in
// a signature -1 stands for any.
type Shape []int64

// Elements returns the product of the extents (1 for a scalar). It fails on a
// negative extent, on more than MaxDims dimensions, and where the product, or
// the product of the non-zero extents, does not fit an int64: a later zero
// must not hide an overflow.
func (s Shape) Elements() (int64, error) {
	if len(s) > MaxDims {
		return 0, fault.New(fault.Invalid, "shape has %d dimensions; at most %d are supported", len(s), MaxDims)
	}
	n, zero := int64(1), false
	for _, d := range s {
		switch {
		case d < 0:
			return 0, fault.New(fault.Invalid, "shape %s has a negative dimension", s)
		case d == 0:
			zero = true
		case n > math.MaxInt64/d:
			return 0, fault.New(fault.Invalid, "shape %s has more elements than fit in 63 bits", s)
		default:
			n *= d
		}
	}
	if zero {
		return 0, nil
	}
	return n, nil
}

// Equal reports whether the shapes have the same extents.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String formats the shape as clients know it: [-1,3,224].
func (s Shape) String() string { return string(s.Append(nil)) }

// Append appends the JSON form of the shape to b.
func (s Shape) Append(b []byte) []byte {
	b = append(b, '[')
	for i, d := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	return append(b, ']')
}

// Tensor is a named, typed, shaped block of data. Data is borrowed: whoever
// hands a tensor over says how long it stays valid.
type Tensor struct {
	Name     string
	Datatype Datatype
	Shape    Shape
	Data     []byte
}

// Rows returns the extent of the leading dimension, and 1 for a scalar.
func (t *Tensor) Rows() int64 {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[0]
}

// ByteSize returns the bytes that a tensor of the type and shape takes. It
// fails for BYTES, whose size depends on the data, and on any shape that
// Elements refuses or whose size does not fit an int64.
func ByteSize(d Datatype, s Shape) (int64, error) {
	n, err := s.Elements()
	if err != nil {
		return 0, err
	}
	size := int64(d.Size())
	if size == 0 {
		return 0, fault.New(fault.Invalid, "the size of %s data does not follow from its shape", d)
	}
	if n > math.MaxInt64/size {
		return 0, fault.New(fault.Invalid, "shape %s of %s has more bytes than fit in 63 bits", s, d)
	}
	return n * size, nil
}

// Validate checks that the data is exactly what type and shape call for. It
// costs O(1) for fixed-size types and a walk over the elements for BYTES.
func (t *Tensor) Validate() error {
	if t.Datatype == Bytes {
		want, err := t.Shape.Elements()
		if err != nil {
			return err
		}
		got, err := CountBytes(t.Data)
		if err != nil {
			return err
		}
		if got != want {
			return fault.New(fault.Invalid, "shape %s needs %d BYTES elements, got %d", t.Shape, want, got)
		}
		return nil
	}
	want, err := ByteSize(t.Datatype, t.Shape)
	if err != nil {
		return err
	}
	if want != int64(len(t.Data)) {
		return fault.New(fault.Invalid, "shape %s of %s needs %d bytes, got %d", t.Shape, t.Datatype, want, len(t.Data))
	}
	return nil
}

// CountBytes returns how many length-prefixed elements data holds, and fails
// if an element reaches past its end.
func CountBytes(data []byte) (int64, error) {
	n := int64(0)
	for len(data) > 0 {
		if len(data) < 4 {
			return 0, fault.New(fault.Invalid, "BYTES element %d: %d bytes left where a 4-byte length belongs", n, len(data))
		}
		size := uint64(binary.LittleEndian.Uint32(data))
		if size > uint64(len(data)-4) {
			return 0, fault.New(fault.Invalid, "BYTES element %d says it has %d bytes, but %d are left", n, size, len(data)-4)
		}
		data = data[4+size:]
		n++
	}
	return n, nil
}

// AppendBytes appends one BYTES element to data.
func AppendBytes[B ~[]byte | ~string](data []byte, element B) []byte {
	data = binary.LittleEndian.AppendUint32(data, uint32(len(element)))
	return append(data, element...)
}

// Elements yields the elements of valid BYTES data as views into it.
func Elements(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) >= 4 {
			end := 4 + int(binary.LittleEndian.Uint32(data))
			if end > len(data) || !yield(data[4:end:end]) {
				return
			}
			data = data[end:]
		}
	}
}
