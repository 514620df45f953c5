package transform

import (
	"encoding/binary"
	"math"

	"sluice/internal/inference/tensor"
)

// kind is what an element type is to arithmetic.
type kind uint8

const (
	text kind = iota
	truth
	integer
	fraction
)

func kindOf(d tensor.Datatype) kind {
	switch d {
	case tensor.Bool:
		return truth
	case tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64:
		return fraction
	case tensor.Bytes, tensor.Invalid:
		return text
	}
	return integer
}

// whole is an integer of any of the types, exactly.
type whole struct {
	negative  bool
	magnitude uint64
}

func signed(v int64) whole {
	if v < 0 {
		return whole{true, -uint64(v)}
	}
	return whole{false, uint64(v)}
}

// wholeAt returns element i of a type that is integer or truth.
func wholeAt(d tensor.Datatype, data []byte, i int) whole {
	switch d {
	case tensor.Int8:
		return signed(int64(int8(data[i])))
	case tensor.Int16:
		return signed(int64(int16(binary.LittleEndian.Uint16(data[2*i:]))))
	case tensor.Int32:
		return signed(int64(int32(binary.LittleEndian.Uint32(data[4*i:]))))
	case tensor.Int64:
		return signed(int64(binary.LittleEndian.Uint64(data[8*i:])))
	case tensor.Uint16:
		return whole{magnitude: uint64(binary.LittleEndian.Uint16(data[2*i:]))}
	case tensor.Uint32:
		return whole{magnitude: uint64(binary.LittleEndian.Uint32(data[4*i:]))}
	case tensor.Uint64:
		return whole{magnitude: binary.LittleEndian.Uint64(data[8*i:])}
	case tensor.Bool:
		if data[i] != 0 {
			return whole{magnitude: 1}
		}
		return whole{}
	}
	return whole{magnitude: uint64(data[i])}
}

// less orders integers of one type.
func (w whole) less(o whole) bool {
	switch {
	case w.negative != o.negative:
		return w.negative
	case w.negative:
		return w.magnitude > o.magnitude
	}
	return w.magnitude < o.magnitude
}

// fits reports whether the integer is one of type d.
func (w whole) fits(d tensor.Datatype) bool {
	bits := 8 * d.Size()
	switch d {
	case tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64:
		return !w.negative && (bits == 64 || w.magnitude < 1<<bits)
	}
	most := uint64(1)<<(bits-1) - 1
	return w.magnitude <= most || w.negative && w.magnitude == most+1
}

func (w whole) float() float64 {
	if w.negative {
		return -float64(w.magnitude)
	}
	return float64(w.magnitude)
}

// putWhole writes an integer that fits as element i.
func putWhole(d tensor.Datatype, data []byte, i int, w whole) {
	bits := w.magnitude
	if w.negative {
		bits = -bits
	}
	switch size := d.Size(); size {
	case 1:
		data[i] = byte(bits)
	case 2:
		binary.LittleEndian.PutUint16(data[2*i:], uint16(bits))
	case 4:
		binary.LittleEndian.PutUint32(data[4*i:], uint32(bits))
	default:
		binary.LittleEndian.PutUint64(data[8*i:], bits)
	}
}

// Float returns element i of any type but BYTES.
func Float(d tensor.Datatype, data []byte, i int) float64 {
	switch d {
	case tensor.FP16:
		return tensor.Half(binary.LittleEndian.Uint16(data[2*i:]))
	case tensor.BF16:
		return tensor.Brain(binary.LittleEndian.Uint16(data[2*i:]))
	case tensor.FP32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
	case tensor.FP64:
		return math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
	}
	return wholeAt(d, data, i).float()
}

// putFloat writes the nearest value of a floating-point type, ties to even; what is
// too large becomes an infinity.
func putFloat(d tensor.Datatype, data []byte, i int, v float64) {
	switch d {
	case tensor.FP16:
		binary.LittleEndian.PutUint16(data[2*i:], half(v))
	case tensor.BF16:
		binary.LittleEndian.PutUint16(data[2*i:], brain(v))
	case tensor.FP32:
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(v)))
	default:
		binary.LittleEndian.PutUint64(data[8*i:], math.Float64bits(v))
	}
}

// half is the nearest IEEE 754 binary16.
func half(v float64) uint16 {
	sign := uint16(math.Float64bits(v) >> 48 & 0x8000)
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return sign | 0x7e00
	case a >= 65520: // halfway between the greatest and what would follow it
		return sign | 0x7c00
	case a < 0x1p-14: // subnormal: multiples of 2^-24
		return sign | uint16(math.RoundToEven(a*0x1p24))
	}
	part, exponent := math.Frexp(a) // a = part * 2^exponent, part in [0.5, 1)
	mantissa := uint16(math.RoundToEven(part * 0x1p11))
	// A mantissa of 2^11 carries into the exponent.
	return sign | (uint16(exponent+14)<<10 + (mantissa - 1<<10))
}

// brain is the nearest bfloat16. A float64 is not rounded to float32 first, since
// rounding twice can miss the nearest.
func brain(v float64) uint16 {
	bits := math.Float64bits(v)
	sign := uint16(bits >> 48 & 0x8000)
	a := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return sign | 0x7fc0
	case a < 0x1p-126:
		return sign | uint16(math.RoundToEven(a*0x1p133))
	}
	part, exponent := math.Frexp(a)
	if math.IsInf(a, 0) || exponent > 128 {
		return sign | 0x7f80
	}
	mantissa := uint16(math.RoundToEven(part * 0x1p8))
	return sign | (uint16(exponent+126)<<7 + (mantissa - 1<<7))
}
