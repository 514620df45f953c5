package tensorjson

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Encode appends the elements of valid tensor data to dst as a flat array.
// Finite floats are the shortest text that reads back as the same value, in
// the spelling of encoding/json. It fails for FP16 and BF16, and for BYTES
// elements that are not UTF-8.
func Encode(dst []byte, d tensor.Datatype, data []byte) ([]byte, error) {
	dst = append(dst, '[')
	if d == tensor.Bytes {
		return encodeBytes(dst, data)
	}
	if int(d) >= len(writers) || writers[d] == nil {
		return dst, unsupported(d)
	}
	put := writers[d]
	for size := d.Size(); len(data) >= size; data = data[size:] {
		dst = append(put(dst, data), ',')
	}
	return closeArray(dst), nil
}

// writers append one element, the first in data. FP32 and FP64 are the hot ones.
var writers = [...]func(dst, data []byte) []byte{
	tensor.FP32: func(dst, data []byte) []byte {
		return appendFloat32(dst, binary.LittleEndian.Uint32(data))
	},
	tensor.FP64: func(dst, data []byte) []byte {
		return appendFloat64(dst, math.Float64frombits(binary.LittleEndian.Uint64(data)))
	},
	tensor.Bool: func(dst, data []byte) []byte { return strconv.AppendBool(dst, data[0] != 0) },
	tensor.Uint8: func(dst, data []byte) []byte {
		return strconv.AppendUint(dst, uint64(data[0]), 10)
	},
	tensor.Uint16: func(dst, data []byte) []byte {
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint16(data)), 10)
	},
	tensor.Uint32: func(dst, data []byte) []byte {
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(data)), 10)
	},
	tensor.Uint64: func(dst, data []byte) []byte {
		return strconv.AppendUint(dst, binary.LittleEndian.Uint64(data), 10)
	},
	tensor.Int8: func(dst, data []byte) []byte {
		return strconv.AppendInt(dst, int64(int8(data[0])), 10)
	},
	tensor.Int16: func(dst, data []byte) []byte {
		return strconv.AppendInt(dst, int64(int16(binary.LittleEndian.Uint16(data))), 10)
	},
	tensor.Int32: func(dst, data []byte) []byte {
		return strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(data))), 10)
	},
	tensor.Int64: func(dst, data []byte) []byte {
		return strconv.AppendInt(dst, int64(binary.LittleEndian.Uint64(data)), 10)
	},
}

func encodeBytes(dst, data []byte) ([]byte, error) {
	i := 0
	for element := range tensor.Elements(data) {
		if !utf8.Valid(element) {
			return dst, fault.New(fault.Invalid,
				"element %d is not valid UTF-8 and cannot be sent as JSON: ask for this output with binary_data true", i)
		}
		dst = append(AppendText(dst, element), ',')
		i++
	}
	return closeArray(dst), nil
}

// closeArray turns the comma behind the last element into the bracket.
func closeArray(dst []byte) []byte {
	if last := len(dst) - 1; dst[last] == ',' {
		dst[last] = ']'
		return dst
	}
	return append(dst, ']')
}

func appendFloat64(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 0):
		return appendInf(dst, f < 0)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return trimExponent(strconv.AppendFloat(dst, f, 'e', -1, 64))
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// trimExponent turns the e-09 that strconv ends with into e-9.
func trimExponent(dst []byte) []byte {
	if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		return append(dst[:n-2], dst[n-1])
	}
	return dst
}

func appendInf(dst []byte, neg bool) []byte {
	if neg {
		dst = append(dst, '-')
	}
	return append(dst, "Infinity"...)
}

// maxFloat32Text is the room that any float32 takes.
const maxFloat32Text = 32

// appendFloat32 appends the float with the bits.
func appendFloat32(dst []byte, bits uint32) []byte {
	abs := bits &^ (1 << 31)
	if abs >= 0x7f800000 {
		if abs > 0x7f800000 {
			return append(dst, "NaN"...)
		}
		return appendInf(dst, bits != abs)
	}
	dst = slices.Grow(dst, maxFloat32Text)
	if bits != abs {
		dst = append(dst, '-')
	}
	if abs == 0 {
		return append(dst, '0')
	}
	digits, exp := shortest32(abs)
	return appendDecimal(dst, digits, exp)
}
