// Package tensor holds typed, shaped, little-endian data: the only currency
// between the wire codecs, the batcher and the engine.
//
// A tensor's data is always in the Open Inference Protocol's binary form
// (row-major, little-endian, no padding; BYTES elements each behind a uint32
// length), so a binary request is decoded by slicing it, and a batch is
// assembled by copying bytes. Only little-endian hosts are supported.
package tensor

import "sluice/internal/platform/fault"

// Datatype is an element type of the Open Inference Protocol, plus BF16 as in
// Triton's binary tensor data extension.
type Datatype uint8

// The datatypes; Invalid is the zero value.
const (
	Invalid Datatype = iota
	Bool
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	FP16
	BF16
	FP32
	FP64
	Bytes
)

var datatypes = [...]struct {
	name string
	size int
}{
	Invalid: {"INVALID", 0}, Bool: {"BOOL", 1},
	Uint8: {"UINT8", 1}, Uint16: {"UINT16", 2}, Uint32: {"UINT32", 4}, Uint64: {"UINT64", 8},
	Int8: {"INT8", 1}, Int16: {"INT16", 2}, Int32: {"INT32", 4}, Int64: {"INT64", 8},
	FP16: {"FP16", 2}, BF16: {"BF16", 2}, FP32: {"FP32", 4}, FP64: {"FP64", 8}, Bytes: {"BYTES", 0},
}

// String returns the protocol's name of the type, such as "FP32".
func (d Datatype) String() string {
	if int(d) < len(datatypes) {
		return datatypes[d].name
	}
	return "INVALID"
}

// Size returns the bytes of one element, and 0 for BYTES, whose elements vary.
func (d Datatype) Size() int {
	if int(d) < len(datatypes) {
		return datatypes[d].size
	}
	return 0
}

// Parse returns the datatype of a protocol name; names are case-sensitive.
func Parse(name string) (Datatype, error) {
	// The compiler turns this into a search over lengths and words: it is on
	// the hot path and must not allocate.
	switch name {
	case "FP32":
		return FP32, nil
	case "BOOL":
		return Bool, nil
	case "UINT8":
		return Uint8, nil
	case "UINT16":
		return Uint16, nil
	case "UINT32":
		return Uint32, nil
	case "UINT64":
		return Uint64, nil
	case "INT8":
		return Int8, nil
	case "INT16":
		return Int16, nil
	case "INT32":
		return Int32, nil
	case "INT64":
		return Int64, nil
	case "FP16":
		return FP16, nil
	case "BF16":
		return BF16, nil
	case "FP64":
		return FP64, nil
	case "BYTES":
		return Bytes, nil
	}
	return Invalid, fault.New(fault.Invalid,
		"unknown datatype %.20q: use one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES", name)
}
