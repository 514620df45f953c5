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
	switch d {
	case tensor.Bytes:
		return encodeBytes(dst, data)
	case tensor.FP32:
		return closeArray(appendFloat32s(dst, data)), nil
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

// writers append one element, the first in data.
var writers = [...]func(dst, data []byte) []byte{
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
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
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

// appendFloat32s appends each float and a comma.
func appendFloat32s(dst, data []byte) []byte {
	for ; len(data) >= 4; data = data[4:] {
		n := len(dst)
		if cap(dst)-n < float32Room {
			dst = slices.Grow(dst, float32Room)
		}
		text := (*[float32Room]byte)(dst[n : n+float32Room])
		n += putFloat32(text, binary.LittleEndian.Uint32(data))
		dst = append(dst[:n], ',')
	}
	return dst
}
