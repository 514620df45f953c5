package tensorjson

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Encode appends the elements of valid tensor data to dst as a flat array.
// Finite floats are the shortest text that reads back as the same value, in
// the spelling of encoding/json, but whole ones end in .0 as Triton writes
// them: a reader that tells integers from floats must not lose the sign of
// -0.0. It may scribble on the spare capacity of dst. It fails for FP16 and BF16,
// and for BYTES elements that are not UTF-8.
func Encode(dst []byte, d tensor.Datatype, data []byte) ([]byte, error) {
	start := len(dst)
	switch d {
	case tensor.FP32:
		dst = appendFloat32s(dst, data)
	case tensor.FP64:
		dst = appendFloat64s(dst, data)
	case tensor.Bytes:
		var err error
		if dst, err = appendTexts(dst, data); err != nil {
			return dst, err
		}
	default:
		if int(d) >= len(writers) || writers[d] == nil {
			return dst, unsupported(d)
		}
		put := writers[d]
		for size := d.Size(); len(data) >= size; data = data[size:] {
			dst = put(append(dst, ','), data)
		}
	}
	if len(dst) == start {
		return append(dst, "[]"...), nil
	}
	dst[start] = '[' // each element came with a comma before it
	return append(dst, ']'), nil
}

// writers append one element, the first in data.
var writers = [...]func(dst, data []byte) []byte{
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

// appendTexts appends a comma and the string of each BYTES element.
func appendTexts(dst, data []byte) ([]byte, error) {
	i := 0
	for element := range tensor.Elements(data) {
		if !utf8.Valid(element) {
			return dst, fault.New(fault.Invalid,
				"element %d is not valid UTF-8 and cannot be sent as JSON: ask for this output with binary_data true", i)
		}
		dst = AppendText(append(dst, ','), element)
		i++
	}
	return dst, nil
}
