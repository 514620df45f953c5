// Package onnxtest builds small ONNX models in Go for tests: honest ones that
// the runtime executes (models.go) and hostile ones that the gate must refuse
// (hostile.go), on top of a builder that writes the wire format (this file).
//
// The builder writes what it is told, valid or not.
package onnxtest

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/tensor"
)

// Model is a ModelProto.
type Model struct {
	IR        int64   // 0 means 8
	Opsets    []Opset // nil means version 17 of the standard set
	Producer  string
	Metadata  [][2]string
	Functions []Function
	Graph     Graph
	Extra     []byte // raw fields to append
}

// Opset is an import of an operator set; the standard domain is "".
type Opset struct {
	Domain  string
	Version int64
}

// Graph is a GraphProto.
type Graph struct {
	Nodes        []Node
	Initializers []Tensor
	Inputs       []Value
	Outputs      []Value
	Extra        []byte
}

// Node is a NodeProto.
type Node struct {
	Op, Domain, Name string
	In, Out          []string
	Attributes       []Attribute
	Extra            []byte
}

// Function is a FunctionProto.
type Function struct {
	Name, Domain string
	In, Out      []string
	Opsets       []Opset // nil means version 17 of the standard set
	Nodes        []Node
}

// Value is a ValueInfoProto of tensor type. Shape lists the extents: a number
// for a fixed one, "?" for a varying one, anything else is its name:
// "batch,3,?". "" is a scalar, "*" leaves the shape out.
type Value struct {
	Name  string
	Type  tensor.Datatype
	Shape string
}

// Tensor is a TensorProto with raw data, or with strings.
type Tensor struct {
	Name    string
	Type    int32 // TensorProto.DataType
	Dims    []int64
	Raw     []byte
	Strings []string
	Extra   []byte
}

// Attribute is an AttributeProto.
type Attribute struct {
	Name  string
	Value []byte // raw fields: its type and value
}

var onnxTypes = map[tensor.Datatype]int32{
	tensor.FP32: 1, tensor.Uint8: 2, tensor.Int8: 3, tensor.Uint16: 4, tensor.Int16: 5, tensor.Int32: 6, tensor.Int64: 7,
	tensor.Bytes: 8, tensor.Bool: 9, tensor.FP16: 10, tensor.FP64: 11, tensor.Uint32: 12, tensor.Uint64: 13, tensor.BF16: 16,
}

// TypeCode returns the TensorProto.DataType of a datatype.
func TypeCode(d tensor.Datatype) int32 { return onnxTypes[d] }

// Floats is a FLOAT tensor.
func Floats(name string, dims []int64, values ...float32) Tensor {
	t := Tensor{Name: name, Type: 1, Dims: dims}
	for _, v := range values {
		t.Raw = binary.LittleEndian.AppendUint32(t.Raw, math.Float32bits(v))
	}
	return t
}

// Int64s is an INT64 tensor of one dimension.
func Int64s(name string, values ...int64) Tensor {
	t := Tensor{Name: name, Type: 7, Dims: []int64{int64(len(values))}}
	for _, v := range values {
		t.Raw = binary.LittleEndian.AppendUint64(t.Raw, uint64(v))
	}
	return t
}

// Int64 is an INT64 scalar.
func Int64(name string, value int64) Tensor {
	t := Int64s(name, value)
	t.Dims = nil
	return t
}

// Strings is a STRING tensor of one dimension.
func Strings(name string, values ...string) Tensor {
	return Tensor{Name: name, Type: 8, Dims: []int64{int64(len(values))}, Strings: values}
}

// Int is an INT attribute.
func Int(name string, v int64) Attribute {
	return Attribute{name, Varint(Varint(nil, 20, 2), 3, uint64(v))}
}

// Ints is an INTS attribute.
func Ints(name string, values ...int64) Attribute {
	b := Varint(nil, 20, 7)
	for _, v := range values {
		b = Varint(b, 8, uint64(v))
	}
	return Attribute{name, b}
}

// String is a STRING attribute.
func String(name, v string) Attribute {
	return Attribute{name, Field(Varint(nil, 20, 3), 4, []byte(v))}
}

// TensorAttr is a TENSOR attribute.
func TensorAttr(name string, t Tensor) Attribute {
	return Attribute{name, Field(Varint(nil, 20, 4), 5, t.Encode())}
}

// GraphAttr is a GRAPH attribute.
func GraphAttr(name string, g Graph) Attribute {
	return Attribute{name, Field(Varint(nil, 20, 5), 6, g.Encode())}
}

// Field appends a length-delimited field.
func Field[B ~[]byte | ~string](b []byte, num protowire.Number, v B) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// Varint appends a varint field.
func Varint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

// text appends a string field unless it is empty.
func text(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return Field(b, num, v)
}

// Encode returns the model file.
func (m Model) Encode() []byte {
	ir := m.IR
	if ir == 0 {
		ir = 8
	}
	b := text(Varint(nil, 1, uint64(ir)), 2, m.Producer)
	b = Field(b, 7, m.Graph.Encode())
	b = encodeOpsets(b, 8, m.Opsets)
	for _, e := range m.Metadata {
		b = Field(b, 14, Field(Field(nil, 1, e[0]), 2, e[1]))
	}
	for _, f := range m.Functions {
		b = Field(b, 25, f.encode())
	}
	return append(b, m.Extra...)
}

func encodeOpsets(b []byte, num protowire.Number, opsets []Opset) []byte {
	if opsets == nil {
		opsets = []Opset{{"", 17}}
	}
	for _, o := range opsets {
		b = Field(b, num, Varint(text(nil, 1, o.Domain), 2, uint64(o.Version)))
	}
	return b
}

// Encode returns the GraphProto.
func (g Graph) Encode() []byte {
	var b []byte
	for _, n := range g.Nodes {
		b = Field(b, 1, n.Encode())
	}
	b = Field(b, 2, "graph")
	for _, t := range g.Initializers {
		b = Field(b, 5, t.Encode())
	}
	for _, v := range g.Inputs {
		b = Field(b, 11, v.Encode())
	}
	for _, v := range g.Outputs {
		b = Field(b, 12, v.Encode())
	}
	return append(b, g.Extra...)
}

// Encode returns the NodeProto.
func (n Node) Encode() []byte {
	var b []byte
	for _, s := range n.In {
		b = Field(b, 1, s)
	}
	for _, s := range n.Out {
		b = Field(b, 2, s)
	}
	b = text(text(b, 3, n.Name), 4, n.Op)
	for _, a := range n.Attributes {
		b = Field(b, 5, append(text(nil, 1, a.Name), a.Value...))
	}
	return append(text(b, 7, n.Domain), n.Extra...)
}

func (f Function) encode() []byte {
	b := text(nil, 1, f.Name)
	for _, s := range f.In {
		b = Field(b, 4, s)
	}
	for _, s := range f.Out {
		b = Field(b, 5, s)
	}
	for _, n := range f.Nodes {
		b = Field(b, 7, n.Encode())
	}
	return text(encodeOpsets(b, 9, f.Opsets), 10, f.Domain)
}

// Encode returns the TensorProto.
func (t Tensor) Encode() []byte {
	var b []byte
	for _, d := range t.Dims {
		b = Varint(b, 1, uint64(d))
	}
	b = Varint(b, 2, uint64(t.Type))
	for _, s := range t.Strings {
		b = Field(b, 6, s)
	}
	b = text(b, 8, t.Name)
	if t.Raw != nil {
		b = Field(b, 9, t.Raw)
	}
	return append(b, t.Extra...)
}

// Encode returns the ValueInfoProto.
func (v Value) Encode() []byte {
	typ := Varint(nil, 1, uint64(onnxTypes[v.Type]))
	if v.Shape != "*" {
		typ = Field(typ, 2, encodeShape(v.Shape))
	}
	return Field(text(nil, 1, v.Name), 2, Field(nil, 1, typ))
}

func encodeShape(shape string) []byte {
	var b []byte
	if shape == "" {
		return b
	}
	for d := range strings.SplitSeq(shape, ",") {
		var dim []byte
		if n, err := strconv.ParseInt(d, 10, 64); err == nil {
			dim = Varint(nil, 1, uint64(n))
		} else if d != "?" {
			dim = Field(nil, 2, d)
		}
		b = Field(b, 1, dim)
	}
	return b
}
