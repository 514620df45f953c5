package onnx

import (
	"encoding/binary"
	"iter"
	"math"
)

// numeric reports whether numbers can read the type: those of sizes, counts
// and scales.
func numeric(t *elementType) bool {
	switch t {
	case &elementTypes[typeFloat], &elementTypes[typeDouble],
		&elementTypes[typeInt16], &elementTypes[typeInt32], &elementTypes[typeInt64]:
		return true
	}
	return false
}

// numbers yields the values of a checked TensorProto of a numeric type. What
// a float64 rounds is far beyond any limit on sizes.
func numbers(b []byte, t *elementType) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for f := read(b); f.next(); {
			switch f.num {
			case tensorRaw:
				for size := t.bits / 8; len(f.b) > 0; f.b = f.b[size:] {
					if !yield(number(little(f.b[:size]), t)) {
						return
					}
				}
			case t.field:
				for u := range f.numbers(t.kind) {
					if !yield(number(u, t)) {
						return
					}
				}
			}
		}
	}
}

// number is the value that the low bits of u stand for.
func number(u uint64, t *elementType) float64 {
	switch t {
	case &elementTypes[typeFloat]:
		return float64(math.Float32frombits(uint32(u)))
	case &elementTypes[typeDouble]:
		return math.Float64frombits(u)
	case &elementTypes[typeInt16]:
		return float64(int16(u))
	case &elementTypes[typeInt32]:
		return float64(int32(u))
	}
	return float64(int64(u))
}

func little(b []byte) uint64 {
	switch len(b) {
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
