package onnxtest

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/tensor"
)

// chain is a model that passes x FP32 [batch, 4] through one node to y.
func chain(n Node, initializers ...Tensor) Model {
	if n.In == nil {
		n.In = []string{"x"}
	}
	n.Out = []string{"y"}
	return Model{Graph: Graph{
		Nodes: []Node{n}, Initializers: initializers,
		Inputs:  []Value{{"x", tensor.FP32, "batch,4"}},
		Outputs: []Value{{"y", tensor.FP32, "batch,4"}},
	}}
}

// ExternalData has an initializer that reads a file outside of the model.
func ExternalData() []byte {
	return chain(Node{Op: "Add", In: []string{"x", "secret"}}, externalTensor("secret")).Encode()
}

// ExternalAttribute has the same in the attribute of a node in a subgraph.
func ExternalAttribute() []byte {
	branch := Graph{
		Nodes:   []Node{{Op: "Constant", Out: []string{"c"}, Attributes: []Attribute{TensorAttr("value", externalTensor(""))}}},
		Outputs: []Value{{"c", tensor.FP32, "4"}},
	}
	return chain(Node{Op: "If", In: []string{"x"}, Attributes: []Attribute{GraphAttr("then_branch", branch), GraphAttr("else_branch", branch)}}).Encode()
}

// externalTensor says that its data is in another file.
func externalTensor(name string) Tensor {
	location := Field(Field(nil, 1, "location"), 2, "../../../etc/passwd")
	return Tensor{Name: name, Type: 1, Dims: []int64{4}, Extra: Varint(Field(nil, 13, location), 14, 1)}
}

// MemoryAddress has an initializer whose "file" is an address in the
// runtime's memory.
func MemoryAddress() []byte {
	location := Field(Field(nil, 1, "location"), 2, "*/_ORT_MEM_ADDR_/*")
	offset := Field(Field(nil, 1, "offset"), 2, "140737488355328")
	t := Tensor{Name: "w", Type: 1, Dims: []int64{4}, Extra: Field(Field(nil, 13, location), 13, offset)}
	return chain(Node{Op: "Add", In: []string{"x", "w"}}, t).Encode()
}

// HugeDims has an initializer of 2^80 elements in 16 bytes of data.
func HugeDims() []byte {
	return chain(Node{Op: "Add", In: []string{"x", "w"}},
		Tensor{Name: "w", Type: 1, Dims: []int64{1 << 40, 1 << 40}, Raw: make([]byte, 16)}).Encode()
}

// NegativeDims has an initializer with the dimensions [-2, -2].
func NegativeDims() []byte {
	return chain(Node{Op: "Add", In: []string{"x", "w"}},
		Tensor{Name: "w", Type: 1, Dims: []int64{-2, -2}, Raw: make([]byte, 16)}).Encode()
}

// ShortData has an initializer of 4 elements with data for 3.
func ShortData() []byte {
	return chain(Node{Op: "Add", In: []string{"x", "w"}}, Floats("w", []int64{4}, 1, 2, 3)).Encode()
}

// HugeAllocation makes a tensor of 2^40 elements from a constant shape.
func HugeAllocation() []byte {
	return chain(Node{Op: "ConstantOfShape", In: []string{"shape"}}, Int64s("shape", 1<<20, 1<<20)).Encode()
}

// DeepNesting has n subgraphs inside of each other. From some thousands on it
// overflows the stack of a careless reader.
func DeepNesting(n int) []byte {
	// Written from the inside out, prepending: the lengths grow outwards.
	tags := bytes.Clone(Graph{}.Encode())
	parts := make([][]byte, 0, n)
	size := len(tags)
	header := func(num protowire.Number) []byte {
		h := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(size))
		size += len(h)
		return h
	}
	for range n {
		g, a, node := header(6), header(5), header(1)
		parts = append(parts, bytes.Join([][]byte{node, a, g}, nil))
	}
	var graph []byte
	for i := len(parts) - 1; i >= 0; i-- {
		graph = append(graph, parts[i]...)
	}
	graph = append(graph, tags...)
	b := Field(Varint(nil, 1, 8), 7, graph)
	return encodeOpsets(b, 8, nil)
}

// UnknownDomain has a node of an operator set that nobody registered.
func UnknownDomain() []byte {
	m := chain(Node{Op: "Shell", Domain: "com.evil", Name: "run"})
	m.Opsets = []Opset{{"", 17}, {"com.evil", 1}}
	return m.Encode()
}

// EPContext has a node that carries a compiled blob for an execution provider.
func EPContext() []byte {
	m := chain(Node{Op: "EPContext", Domain: "com.microsoft", Attributes: []Attribute{String("ep_cache_context", "\x7fELF")}})
	m.Opsets = []Opset{{"", 17}, {"com.microsoft", 1}}
	return m.Encode()
}

// FunctionBomb has local functions that call each other twice each: 2^levels
// nodes once they are expanded.
func FunctionBomb(levels int) []byte { return functions(levels, 2).Encode() }

// FunctionChain has local functions that call each other once each, to the
// given depth.
func FunctionChain(levels int) []byte { return functions(levels, 1).Encode() }

// RecursiveFunction has a local function that calls itself.
func RecursiveFunction() []byte {
	m := functions(1, 1)
	m.Functions[0].Nodes[0] = Node{Op: "f1", Domain: "sluice.test", In: []string{"x"}, Out: []string{"y"}}
	m.Functions[0].Opsets = m.Opsets
	return m.Encode()
}

// TwoGraphs is an honest model followed by a second graph field, which a
// protobuf parser merges into the first.
func TwoGraphs() []byte {
	return Field(Scalar(), 7, Graph{Nodes: []Node{{Op: "Shell", Domain: "com.evil", In: []string{"x"}, Out: []string{"z"}}}}.Encode())
}

// RuntimeFormat is a valid ONNX file that bears the mark of ONNX Runtime's
// own format, by which the runtime chooses its parser.
func RuntimeFormat() []byte {
	return Model{Producer: "ORTM", Graph: Graph{
		Nodes:   []Node{{Op: "Identity", In: []string{"x"}, Out: []string{"y"}}},
		Inputs:  []Value{{"x", tensor.FP32, "batch,4"}},
		Outputs: []Value{{"y", tensor.FP32, "batch,4"}},
	}}.Encode()
}

// ManyMessages is a file of n empty nodes of two bytes each, which an
// unwary parser makes a hundred times as large.
func ManyMessages(n int) []byte {
	return encodeOpsets(Field(Varint(nil, 1, 8), 7, bytes.Repeat([]byte{1<<3 | 2, 0}, n)), 8, nil)
}

// Truncated is an honest model without its last n bytes.
func Truncated(n int) []byte {
	b := MLP(1, 4, 16, 3)
	return b[:len(b)-n]
}

// LongName has an input with a name of n bytes.
func LongName(n int) []byte {
	m := chain(Node{Op: "Identity"})
	m.Graph.Inputs[0].Name = strings.Repeat("x", n)
	return m.Encode()
}

// Hostile returns every hostile file of this package by name, in small sizes
// where the danger does not lie in the size.
func Hostile() map[string][]byte {
	return map[string][]byte{
		"external_data": ExternalData(), "external_attribute": ExternalAttribute(), "memory_address": MemoryAddress(),
		"huge_dims": HugeDims(), "negative_dims": NegativeDims(), "short_data": ShortData(), "huge_allocation": HugeAllocation(),
		"deep_nesting": DeepNesting(100_000), "unknown_domain": UnknownDomain(), "ep_context": EPContext(),
		"function_bomb": FunctionBomb(60), "function_chain": FunctionChain(60), "recursive_function": RecursiveFunction(), "two_graphs": TwoGraphs(),
		"runtime_format": RuntimeFormat(), "many_messages": ManyMessages(1 << 20), "truncated": Truncated(5),
		"long_name": LongName(1 << 20), "empty": {}, "not_onnx": []byte("<!DOCTYPE html><html>404</html>"),
		"zeros": make([]byte, 4096),
	}
}
