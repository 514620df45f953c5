package shadow

import (
	"encoding/binary"
	"math"

	"sluice/internal/inference/tensor"
)

// number is an element in two forms.
type number struct {
	// key orders the values of a datatype, and is one more for the next greater
	// value that the datatype has. It is 0 for NaN, and the same for both zeros.
	key   uint64
	value float64
}

// reader reads the i-th element of data in wire form.
type reader func(data []byte, i int64) number

// readers are those of the datatypes with elements of one size.
var readers = [...]reader{
	tensor.Bool:   func(d []byte, i int64) number { return unsigned(uint64(min(d[i], 1))) },
	tensor.Uint8:  func(d []byte, i int64) number { return unsigned(uint64(d[i])) },
	tensor.Uint16: func(d []byte, i int64) number { return unsigned(uint64(u16(d, i))) },
	tensor.Uint32: func(d []byte, i int64) number { return unsigned(uint64(u32(d, i))) },
	tensor.Uint64: func(d []byte, i int64) number { return unsigned(u64(d, i)) },
	tensor.Int8:   func(d []byte, i int64) number { return signed(int64(int8(d[i]))) },
	tensor.Int16:  func(d []byte, i int64) number { return signed(int64(int16(u16(d, i)))) },
	tensor.Int32:  func(d []byte, i int64) number { return signed(int64(int32(u32(d, i)))) },
	tensor.Int64:  func(d []byte, i int64) number { return signed(int64(u64(d, i))) },
	tensor.FP16:   func(d []byte, i int64) number { x := u16(d, i); return float(uint64(x), 16, tensor.Half(x)) },
	tensor.BF16:   func(d []byte, i int64) number { x := u16(d, i); return float(uint64(x), 16, tensor.Brain(x)) },
	tensor.FP32: func(d []byte, i int64) number {
		x := u32(d, i)
		return float(uint64(x), 32, float64(math.Float32frombits(x)))
	},
	tensor.FP64: func(d []byte, i int64) number { x := u64(d, i); return float(x, 64, math.Float64frombits(x)) },
}

func u16(d []byte, i int64) uint16 { return binary.LittleEndian.Uint16(d[2*i:]) }
func u32(d []byte, i int64) uint32 { return binary.LittleEndian.Uint32(d[4*i:]) }
func u64(d []byte, i int64) uint64 { return binary.LittleEndian.Uint64(d[8*i:]) }

func isFloat(d tensor.Datatype) bool {
	return d == tensor.FP16 || d == tensor.BF16 || d == tensor.FP32 || d == tensor.FP64
}

func unsigned(x uint64) number { return number{x, float64(x)} }

func signed(x int64) number { return number{uint64(x) ^ 1<<63, float64(x)} }

// float makes a key of an IEEE 754 number of so many bits, which are sign and
// magnitude: magnitudes count up and down from zero.
func float(raw uint64, width int, value float64) number {
	if math.IsNaN(value) {
		return number{0, value}
	}
	sign := uint64(1) << (width - 1)
	const zero = 1 << 63
	if raw&sign != 0 {
		return number{zero - raw&^sign, value}
	}
	return number{zero + raw, value}
}
