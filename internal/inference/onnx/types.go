package onnx

import (
	"math"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// elementType is an entry of the table of TensorProto.DataType.
type elementType struct {
	label    string
	bits     int             // of one element in raw_data
	field    int             // of TensorProto that holds typed data
	kind     fieldKind       // of that field
	datatype tensor.Datatype // Invalid where no request can carry the type
}

var elementTypes = [...]elementType{
	1:  {"FLOAT", 32, tensorFloats, fixed32, tensor.FP32},
	2:  {"UINT8", 8, tensorInt32s, varint, tensor.Uint8},
	3:  {"INT8", 8, tensorInt32s, varint, tensor.Int8},
	4:  {"UINT16", 16, tensorInt32s, varint, tensor.Uint16},
	5:  {"INT16", 16, tensorInt32s, varint, tensor.Int16},
	6:  {"INT32", 32, tensorInt32s, varint, tensor.Int32},
	7:  {"INT64", 64, tensorInt64s, varint, tensor.Int64},
	8:  {"STRING", 0, tensorStrings, blob, tensor.Bytes},
	9:  {"BOOL", 8, tensorInt32s, varint, tensor.Bool},
	10: {"FLOAT16", 16, tensorInt32s, varint, tensor.FP16},
	11: {"DOUBLE", 64, tensorDoubles, fixed64, tensor.FP64},
	12: {"UINT32", 32, tensorUint64s, varint, tensor.Uint32},
	13: {"UINT64", 64, tensorUint64s, varint, tensor.Uint64},
	14: {label: "COMPLEX64"},
	15: {label: "COMPLEX128"},
	16: {"BFLOAT16", 16, tensorInt32s, varint, tensor.BF16},
	17: {"FLOAT8E4M3FN", 8, tensorInt32s, varint, tensor.Invalid},
	18: {"FLOAT8E4M3FNUZ", 8, tensorInt32s, varint, tensor.Invalid},
	19: {"FLOAT8E5M2", 8, tensorInt32s, varint, tensor.Invalid},
	20: {"FLOAT8E5M2FNUZ", 8, tensorInt32s, varint, tensor.Invalid},
	21: {"UINT4", 4, tensorInt32s, varint, tensor.Invalid},
	22: {"INT4", 4, tensorInt32s, varint, tensor.Invalid},
	23: {"FLOAT4E2M1", 4, tensorInt32s, varint, tensor.Invalid},
	24: {"FLOAT8E8M0", 8, tensorInt32s, varint, tensor.Invalid},
	25: {"UINT2", 2, tensorInt32s, varint, tensor.Invalid},
	26: {"INT2", 2, tensorInt32s, varint, tensor.Invalid},
}

const (
	typeFloat  = 1
	typeInt16  = 5
	typeInt32  = 6
	typeInt64  = 7
	typeString = 8
	typeDouble = 11
)

// elementTypeOf returns the table entry of a type code. Codes are compared as
// the 64 bits that the file has, so that none is cut to a valid one.
func elementTypeOf(code uint64) (*elementType, error) {
	switch {
	case code == 0 || code > math.MaxInt32:
		return nil, fault.New(fault.Invalid, "element type %d does not exist", int64(code))
	case code >= uint64(len(elementTypes)):
		return nil, fault.New(fault.Unsupported, "element type %d is not supported", code)
	case elementTypes[code].field == 0:
		return nil, fault.New(fault.Unsupported, "element type %s is not supported", elementTypes[code].label)
	}
	return &elementTypes[code], nil
}

// port reads a graph input or output for the signature.
func (in *inspector) port(b []byte) (model.Port, error) {
	var port model.Port
	var typ []byte
	for f := read(b); f.next(); {
		switch f.num {
		case valueName:
			port.Name = string(f.b)
		case valueType:
			typ = f.b
		}
	}
	kind, content, err := onlyType(typ)
	if err != nil {
		return port, err
	}
	switch kind {
	case 0:
		return port, fault.New(fault.Invalid, "has no type")
	case typeTensor:
	default:
		return port, fault.New(fault.Unsupported, "is %s; only dense tensors are supported%s", typeNames[kind], advice[kind])
	}
	element := uint64(0)
	for f := read(content); f.next(); {
		switch f.num {
		case tensorTypeElement:
			element = f.u
		case tensorTypeShape:
			if port.Shape, port.Symbols, err = in.shape(f.b); err != nil {
				return port, err
			}
		}
	}
	t, err := elementTypeOf(element)
	if err != nil {
		return port, err
	}
	if port.Datatype = t.datatype; t.datatype == tensor.Invalid {
		return port, fault.New(fault.Unsupported, "has elements of type %s, which the protocol cannot carry", t.label)
	}
	return port, nil
}

var typeNames = map[int]string{
	typeSequence: "a sequence", typeMap: "a map", typeOptional: "an optional", typeSparse: "a sparse tensor", typeOpaque: "an opaque value",
}

var advice = map[int]string{
	typeSequence: " (a classifier of scikit-learn is exported with the option zipmap=False)",
}

// onlyType returns which field of a TypeProto is set, and its content.
func onlyType(b []byte) (kind int, content []byte, err error) {
	for f := read(b); f.next(); {
		if f.num == typeDenotation {
			continue
		}
		if kind != 0 {
			return 0, nil, fault.New(fault.Invalid, "has two types at once")
		}
		kind, content = f.num, f.b
	}
	return kind, content, nil
}

// shape reads a TensorShapeProto. Its extents are fixed ones or -1; their
// product, with 1 for each -1, must be within the limit. Symbols are nil
// where there are none.
func (in *inspector) shape(b []byte) (tensor.Shape, []string, error) {
	shape, symbols, named := tensor.Shape{}, []string{}, false
	for f := read(b); f.next(); {
		extent, symbol, err := dim(f.b)
		if err != nil {
			return nil, nil, err
		}
		if len(shape) == in.limits.MaxDims {
			return nil, nil, fault.New(fault.TooLarge, "has more than %d dimensions", in.limits.MaxDims)
		}
		shape, symbols = append(shape, extent), append(symbols, symbol)
		named = named || symbol != ""
	}
	least := make(tensor.Shape, len(shape))
	for i, d := range shape {
		least[i] = max(d, 1)
	}
	if n, err := least.Elements(); err != nil || n > in.limits.MaxElements {
		return nil, nil, fault.New(fault.TooLarge, "shape %s has more than %d elements", shape, in.limits.MaxElements)
	}
	if !named {
		symbols = nil
	}
	return shape, symbols, nil
}

// dim reads one dimension: its fixed extent, or -1 and its name if it has one.
func dim(b []byte) (int64, string, error) {
	extent, symbol, set := int64(-1), "", 0
	for f := read(b); f.next(); {
		switch f.num {
		case dimValue:
			if extent = int64(f.u); extent < 0 {
				return 0, "", fault.New(fault.Invalid, "has the negative dimension %d (a varying one is written as dim_param)", extent)
			}
			set++
		case dimParam:
			symbol = string(f.b)
			set++
		}
	}
	if set > 1 {
		return 0, "", fault.New(fault.Invalid, "has a dimension that is both %d and %.80q", extent, symbol)
	}
	return extent, symbol, nil
}

// declaration checks any declared value: named, and of a plausible shape if
// it is a tensor. It returns the name as a view.
func (in *inspector) declaration(b []byte) ([]byte, error) {
	var label, typ []byte
	for f := read(b); f.next(); {
		switch f.num {
		case valueName:
			label = f.b
		case valueType:
			typ = f.b
		}
	}
	if len(label) == 0 {
		return nil, fault.New(fault.Invalid, "has no name")
	}
	kind, content, err := onlyType(typ)
	if err != nil || kind != typeTensor {
		return label, at(err, "%.80q", label)
	}
	for f := read(content); f.next(); {
		if f.num == tensorTypeShape {
			if _, _, err := in.shape(f.b); err != nil {
				return label, at(err, "%.80q", label)
			}
		}
	}
	return label, nil
}
