package onnx

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// edit returns an honest model (x FP32 [batch,4] -> Identity -> y) after a change.
func edit(change func(m *onnxtest.Model)) []byte {
	m := onnxtest.Model{Graph: onnxtest.Graph{
		Nodes:   []onnxtest.Node{{Op: "Identity", Name: "n", In: []string{"x"}, Out: []string{"y"}}},
		Inputs:  []onnxtest.Value{{Name: "x", Type: tensor.FP32, Shape: "batch,4"}},
		Outputs: []onnxtest.Value{{Name: "y", Type: tensor.FP32, Shape: "batch,4"}},
	}}
	change(&m)
	return m.Encode()
}

// withNode puts a node of the operator before the last one.
func withNode(op string, in []string, constants []onnxtest.Tensor, attributes ...onnxtest.Attribute) []byte {
	return edit(func(m *onnxtest.Model) {
		n := onnxtest.Node{Op: op, Name: "op", In: in, Out: []string{"z"}, Attributes: attributes}
		m.Graph.Nodes = append([]onnxtest.Node{n}, m.Graph.Nodes...)
		m.Graph.Initializers = constants
	})
}

func withTensor(t onnxtest.Tensor) []byte {
	return edit(func(m *onnxtest.Model) { m.Graph.Initializers = append(m.Graph.Initializers, t) })
}

func withAttribute(a ...onnxtest.Attribute) []byte {
	return edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Attributes = a })
}

// withInputType gives the input x the raw TypeProto.
func withInputType(typ []byte) []byte {
	return edit(func(m *onnxtest.Model) {
		m.Graph.Inputs = nil
		m.Graph.Extra = onnxtest.Field(nil, 11, onnxtest.Field(onnxtest.Field(nil, 1, "x"), 2, typ))
	})
}

// sparseOf is a SparseTensorProto named w of FLOAT values.
func sparseOf(dims []int64, values int64, indices onnxtest.Tensor) []byte {
	b := onnxtest.Field(nil, 1, onnxtest.Floats("w", []int64{values}, make([]float32, values)...).Encode())
	b = onnxtest.Field(b, 2, indices.Encode())
	for _, d := range dims {
		b = onnxtest.Varint(b, 3, uint64(d))
	}
	return b
}

func withSparse(sparse []byte) []byte {
	return edit(func(m *onnxtest.Model) { m.Graph.Extra = onnxtest.Field(nil, 15, sparse) })
}

func typeOf(element uint64) []byte {
	return onnxtest.Field(nil, 1, onnxtest.Field(onnxtest.Varint(nil, 1, element), 2, ""))
}

func TestRefuses(t *testing.T) {
	const domain = "sluice.test"
	i64 := onnxtest.Int64s
	sequence := onnxtest.Field(nil, 4, onnxtest.Field(nil, 1, typeOf(1)))
	extra := func(b []byte) []byte { return edit(func(m *onnxtest.Model) { m.Extra = b }) }
	nodeExtra := func(b []byte) []byte { return edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Extra = b }) }
	opsets := func(o ...onnxtest.Opset) []byte { return edit(func(m *onnxtest.Model) { m.Opsets = o }) }
	function := func(f onnxtest.Function) []byte {
		return edit(func(m *onnxtest.Model) { m.Functions = []onnxtest.Function{f} })
	}
	packed := func(bytes int) []byte { return make([]byte, bytes) }
	for _, c := range []struct {
		name string
		data []byte
		kind fault.Kind
		says string // all parts between "|" are in the message
	}{
		// The wire format.
		{"tag cut", append(onnxtest.Scalar(), 0x80), fault.Invalid, "field tag is malformed|ends in the middle"},
		{"tag too long", append(onnxtest.Scalar(), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), fault.Invalid, "malformed"},
		{"field number 0", append(onnxtest.Scalar(), 0x02, 0), fault.Invalid, "invalid field number"},
		{"varint cut", append(onnxtest.Scalar(), 5<<3, 0x80), fault.Invalid, "model.model_version|ends in the middle"},
		{"varint too long", append(onnxtest.Scalar(), 5<<3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), fault.Invalid, "model.model_version|overflow"},
		{"length cut", append(onnxtest.Scalar(), 6<<3|2, 0x80), fault.Invalid, "model.doc_string|ends in the middle"},
		{"length beyond the file", append(onnxtest.Scalar(), 6<<3|2, 9, 'a'), fault.Invalid, "model.doc_string|9 bytes, but 1 are left"},
		{"length near 2^64", append(onnxtest.Scalar(), 6<<3|2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), fault.Invalid, "model.doc_string|18446744073709551615 bytes"},
		{"length beyond the message", nodeExtra([]byte{6<<3 | 2, 100, 'a'}), fault.Invalid, "model.graph.node[0].doc_string|100 bytes, but 1 are left"},
		{"wrong wire type", extra([]byte{2 << 3, 1}), fault.Invalid, "model.producer_name|wire type 0 where 2"},
		{"string as fixed64", nodeExtra([]byte{6<<3 | 1, 0, 0, 0, 0, 0, 0, 0, 0}), fault.Invalid, "doc_string|wire type 1"},
		{"number as bytes", extra(onnxtest.Field(nil, 5, "x")), fault.Invalid, "model.model_version|wire type 2"},
		{"group", extra([]byte{7<<3 | 3, 7<<3 | 4}), fault.Invalid, "model.graph"},
		{"unknown field", extra(onnxtest.Varint(nil, 99, 1)), fault.Invalid, "model|unknown field 99"},
		{"unknown low field", nodeExtra(onnxtest.Varint(nil, 20, 1)), fault.Invalid, "node[0]|unknown field 20"},
		{"singular field twice", extra(onnxtest.Varint(nil, 1, 8)), fault.Invalid, "model.ir_version|more than once"},
		{"two graphs", onnxtest.TwoGraphs(), fault.Invalid, "model.graph|more than once"},
		{"packed varint cut", withTensor(onnxtest.Tensor{Name: "w", Type: 7, Dims: []int64{1}, Extra: onnxtest.Field(nil, 7, []byte{0x80})}), fault.Invalid, "initializer[0].int64_data|packed value"},
		{"packed floats of 5 bytes", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Extra: onnxtest.Field(nil, 4, packed(5))}), fault.Invalid, "float_data|5 bytes are no whole number of 4-byte"},
		{"truncated", onnxtest.Truncated(5), fault.Invalid, "are left"},
		{"no protobuf", []byte("<!DOCTYPE html>"), fault.Invalid, "model"},
		{"empty", nil, fault.Invalid, "empty"},
		{"ORT format", onnxtest.RuntimeFormat(), fault.Unsupported, "ORTM"},

		// Counts and nesting.
		{"nesting", onnxtest.DeepNesting(10_000), fault.TooLarge, "nested more than 16 deep"},
		{"nodes", onnxtest.ManyMessages(200_000), fault.TooLarge, "more than 100000 nodes"},
		{"name length", onnxtest.LongName(5000), fault.TooLarge, "input[0].name|5000 bytes"},
		{"attributes of a node", withAttribute(slicesOf(100, func(i int) onnxtest.Attribute { return onnxtest.Int(fmt.Sprint("a", i), 1) })...), fault.TooLarge, `node "n"|64 attributes`},
		{"ports", edit(func(m *onnxtest.Model) {
			m.Graph.Outputs = slicesOf(600, func(i int) onnxtest.Value {
				return onnxtest.Value{Name: fmt.Sprint("y", i), Type: tensor.FP32, Shape: "1"}
			})
		}), fault.TooLarge, "more than 512 inputs or outputs"},
		{"dimensions", withTensor(onnxtest.Floats("w", slicesOf(17, func(int) int64 { return 1 }), 1)), fault.TooLarge, `"w"|more than 16 dimensions`},
		{"metadata", edit(func(m *onnxtest.Model) {
			m.Metadata = [][2]string{{"k", strings.Repeat("v", 5<<20)}}
		}), fault.TooLarge, "metadata"},
		{"nested types", withInputType(deepType(40)), fault.TooLarge, "nested more than 16 deep"},

		// The model.
		{"no IR version", onnxtest.Field(nil, 7, ""), fault.Invalid, "no ir_version"},
		{"no graph", onnxtest.Varint(nil, 1, 8), fault.Invalid, "no graph"},
		{"IR too new", edit(func(m *onnxtest.Model) { m.IR = 14 }), fault.Unsupported, "IR version 14|3 to 13"},
		{"IR too old", edit(func(m *onnxtest.Model) { m.IR = 2 }), fault.Unsupported, "IR version 2"},
		{"IR negative", edit(func(m *onnxtest.Model) { m.IR = -1 }), fault.Unsupported, "IR version -1"},
		{"no opset", opsets([]onnxtest.Opset{}...), fault.Invalid, "imports no operator set"},
		{"opset too new", opsets(onnxtest.Opset{Version: 27}), fault.Unsupported, `version 27|"ai.onnx"|7 to 26`},
		{"opset 0", opsets(onnxtest.Opset{Version: 0}), fault.Unsupported, `version 0|"ai.onnx"`},
		{"opset negative", opsets(onnxtest.Opset{Version: 17}, onnxtest.Opset{Domain: "z", Version: -5}), fault.Invalid, `version -5|"z"`},
		{"opset twice", opsets(onnxtest.Opset{Version: 17}, onnxtest.Opset{Domain: "ai.onnx", Version: 18}), fault.Invalid, "17 and as 18"},
		{"training", extra(onnxtest.Field(nil, 20, "")), fault.Unsupported, "model.training_info"},
		{"devices", extra(onnxtest.Field(nil, 26, "")), fault.Unsupported, "model.configuration"},
		{"session settings", edit(func(m *onnxtest.Model) { m.Metadata = [][2]string{{"ort_config", "{}"}} }), fault.Unsupported, "ort_config"},
		{"metadata twice", edit(func(m *onnxtest.Model) { m.Metadata = [][2]string{{"a", "1"}, {"a", "2"}} }), fault.Invalid, `"a"|more than once`},
		{"metadata not UTF-8", edit(func(m *onnxtest.Model) { m.Metadata = [][2]string{{"a", "\xff"}} }), fault.Invalid, "metadata_props[0].value|UTF-8"},

		// Names and ports.
		{"input twice", edit(func(m *onnxtest.Model) { m.Graph.Inputs = append(m.Graph.Inputs, m.Graph.Inputs[0]) }), fault.Invalid, `input: "x" is declared more than once`},
		{"output twice", edit(func(m *onnxtest.Model) { m.Graph.Outputs = append(m.Graph.Outputs, m.Graph.Outputs[0]) }), fault.Invalid, `output "y"|more than once`},
		{"initializer twice", withNode("Add", []string{"x", "c"}, []onnxtest.Tensor{i64("c", 1), i64("c", 2)}), fault.Invalid, `initializer "c"|more than once`},
		{"input without a name", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Name = "" }), fault.Invalid, "input: has no name"},
		{"output without a name", edit(func(m *onnxtest.Model) { m.Graph.Outputs[0].Name = "" }), fault.Invalid, "output: has no name"},
		{"initializer without a name", withTensor(i64("", 1)), fault.Invalid, "initializer has no name"},
		{"input not UTF-8", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Name = "\xff\xfe" }), fault.Invalid, `input[0].name|"\xff\xfe" is not valid UTF-8`},
		{"no outputs", edit(func(m *onnxtest.Model) { m.Graph.Outputs = nil }), fault.Invalid, "no outputs"},
		{"input of unknown rank", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Shape = "*" }), fault.Unsupported, `input "x"|no shape`},
		{"negative dimension", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Shape = "-1,4" }), fault.Invalid, `"x"|negative dimension -1`},
		{"huge input", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Shape = "batch,4294967296,4294967296" }), fault.TooLarge, `"x"|[-1,4294967296,4294967296]`},
		{"overflow behind a zero", edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Shape = "0,9223372036854775807,9223372036854775807" }), fault.TooLarge, `"x"`},
		{"two extents at once", withInputType(onnxtest.Field(nil, 1, onnxtest.Field(onnxtest.Varint(nil, 1, 1), 2,
			onnxtest.Field(nil, 1, onnxtest.Field(onnxtest.Varint(nil, 1, 4), 2, "n"))))), fault.Invalid, `"x"|both 4 and "n"`},
		{"no type", withInputType(nil), fault.Invalid, `input "x"|no type`},
		{"element type 0", withInputType(typeOf(0)), fault.Invalid, `input "x"|element type 0`},
		{"element type beyond 32 bits", withInputType(typeOf(1<<32 + 1)), fault.Invalid, `input "x"|4294967297`},
		{"complex input", withInputType(typeOf(14)), fault.Unsupported, `input "x"|COMPLEX64`},
		{"float8 input", withInputType(typeOf(17)), fault.Unsupported, `input "x"|FLOAT8E4M3FN`},
		{"two types", withInputType(append(typeOf(1), sequence...)), fault.Invalid, `"x"|two types`},
		{"sequence", withInputType(sequence), fault.Unsupported, `input "x"|a sequence|zipmap`},
		{"map", withInputType(onnxtest.Field(nil, 5, onnxtest.Field(onnxtest.Varint(nil, 1, 7), 2, typeOf(1)))), fault.Unsupported, `input "x"|a map`},
		{"optional", withInputType(onnxtest.Field(nil, 9, onnxtest.Field(nil, 1, typeOf(1)))), fault.Unsupported, `input "x"|an optional`},
		{"sparse", withInputType(onnxtest.Field(nil, 8, onnxtest.Varint(nil, 1, 1))), fault.Unsupported, `input "x"|a sparse tensor`},
		{"opaque", withInputType(onnxtest.Field(nil, 7, "")), fault.Unsupported, `input "x"|an opaque value`},

		// Tensors.
		{"external data", onnxtest.ExternalData(), fault.Unsupported, `initializer "secret"|another file|external_data`},
		{"external data in a subgraph", onnxtest.ExternalAttribute(), fault.Unsupported, `(If)|"then_branch"|(Constant)|"value"|external_data`},
		{"external location alone", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Raw: packed(4), Extra: onnxtest.Varint(nil, 14, 1)}), fault.Unsupported, `"w"|data_location 1`},
		{"external location in high bits", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Raw: packed(4), Extra: onnxtest.Varint(nil, 14, 1<<32|1)}), fault.Unsupported, `"w"|data_location`},
		{"memory address", onnxtest.MemoryAddress(), fault.Unsupported, `"w"|external_data`},
		{"external data in a function", function(onnxtest.Function{Name: "f", Domain: domain, Nodes: []onnxtest.Node{{Op: "Constant", Out: []string{"c"},
			Attributes: []onnxtest.Attribute{onnxtest.TensorAttr("value", onnxtest.Tensor{Type: 1, Extra: onnxtest.Field(nil, 13, "")})}}}}), fault.Unsupported, `function "f"|external_data`},
		{"segment", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Raw: packed(4), Extra: onnxtest.Field(nil, 3, "")}), fault.Unsupported, "initializer[0].segment"},
		{"huge dims", onnxtest.HugeDims(), fault.Invalid, `"w"|63 bits`},
		{"negative dims", onnxtest.NegativeDims(), fault.Invalid, `"w"|negative dimension -2`},
		{"bytes overflow", withTensor(onnxtest.Tensor{Name: "w", Type: 11, Dims: []int64{1 << 60}, Raw: packed(8)}), fault.Invalid, `"w"|bytes than fit`},
		{"too little data", onnxtest.ShortData(), fault.Invalid, `"w"|[4] of FLOAT needs 16 bytes of data, got 12`},
		{"too much data", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Raw: packed(8)}), fault.Invalid, `"w"|needs 4 bytes of data, got 8`},
		{"data for no element", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{0}, Raw: packed(4)}), fault.Invalid, `"w"|needs 0 bytes`},
		{"no data", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{4}}), fault.Invalid, `"w"|there is none`},
		{"scalar without data", withTensor(onnxtest.Tensor{Name: "w", Type: 1}), fault.Invalid, `"w"|there is none`},
		{"int4 rounds up", withTensor(onnxtest.Tensor{Name: "w", Type: 22, Dims: []int64{5}, Raw: packed(2)}), fault.Invalid, `"w"|needs 3 bytes of data, got 2`},
		{"too few strings", withTensor(onnxtest.Tensor{Name: "w", Type: 8, Dims: []int64{3}, Strings: []string{"a", "b"}}), fault.Invalid, `"w"|needs 3 values of data, got 2`},
		{"raw strings", withTensor(onnxtest.Tensor{Name: "w", Type: 8, Dims: []int64{1}, Raw: packed(1)}), fault.Invalid, `"w"|string_data`},
		{"wrong data field", withTensor(onnxtest.Tensor{Name: "w", Type: 7, Dims: []int64{1}, Extra: onnxtest.Field(nil, 4, packed(4))}), fault.Invalid, `"w"|int64_data, not float_data`},
		{"two data fields", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{1}, Raw: packed(4), Extra: onnxtest.Field(nil, 4, packed(4))}), fault.Invalid, `"w"|both as raw_data and as float_data`},
		{"typed data in two pieces too long", withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{2}, Extra: onnxtest.Field(onnxtest.Field(nil, 4, packed(8)), 4, packed(4))}), fault.Invalid, `"w"|got 3`},
		{"complex tensor", withTensor(onnxtest.Tensor{Name: "w", Type: 15, Dims: []int64{1}, Raw: packed(16)}), fault.Unsupported, `"w"|COMPLEX128`},
		{"unknown tensor type", withTensor(onnxtest.Tensor{Name: "w", Type: 99, Dims: []int64{1}, Raw: packed(1)}), fault.Unsupported, `"w"|type 99`},
		{"tensor without type", withTensor(onnxtest.Tensor{Name: "w", Dims: []int64{1}, Raw: packed(1)}), fault.Invalid, `"w"|type 0`},
		{"attribute tensor too short", withAttribute(onnxtest.TensorAttr("t", onnxtest.Tensor{Type: 1, Dims: []int64{2}, Raw: packed(4)})), fault.Invalid, `node "n" (Identity)|attribute "t"|needs 8 bytes`},
		{"sparse too large when dense", withSparse(sparseOf([]int64{1 << 20, 1 << 20}, 1, i64("", 5))), fault.TooLarge, `sparse initializer "w"|[1048576,1048576]`},
		{"sparse index outside", withSparse(sparseOf([]int64{4}, 2, i64("", 1, 4))), fault.Invalid, `"w"|index 4|dimension of 4`},
		{"sparse index negative", withSparse(sparseOf([]int64{4}, 1, i64("", -1))), fault.Invalid, `"w"|index -1`},
		{"sparse indices missing", withSparse(sparseOf([]int64{4}, 2, i64("", 1))), fault.Invalid, `"w"|indices are INT64 [1]`},
		{"sparse indices as floats", withSparse(sparseOf([]int64{4}, 1, onnxtest.Floats("", []int64{1}, 1))), fault.Invalid, `"w"|indices are FLOAT`},
		{"sparse overfull", withSparse(sparseOf([]int64{2}, 3, i64("", 0, 1, 0))), fault.Invalid, `"w"|2 elements but 3 values`},
		{"sparse without values", withSparse(nil), fault.Invalid, "sparse initializer|values"},
		{"sparse 2-d index outside", withSparse(sparseOf([]int64{2, 3}, 1, onnxtest.Tensor{Type: 7, Dims: []int64{1, 2}, Raw: []byte{1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}})), fault.Invalid, `"w"|index 3|dimension of 3`},

		// Nodes and attributes.
		{"unknown domain", onnxtest.UnknownDomain(), fault.Unsupported, `node "run" (com.evil.Shell)|"com.evil"|ai.onnx, ai.onnx.ml, com.microsoft`},
		{"training domain", edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Domain, m.Graph.Nodes[0].Op = "ai.onnx.training", "Adam" }), fault.Unsupported, `"ai.onnx.training"`},
		{"unknown operator", edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Op = "ImageDecoder" }), fault.Unsupported, `operator "ImageDecoder"|node "n"`},
		{"EPContext", onnxtest.EPContext(), fault.Unsupported, `"EPContext"|"com.microsoft"`},
		{"domain not imported", edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Domain, m.Graph.Nodes[0].Op = "ai.onnx.ml", "Scaler" }), fault.Invalid, `"ai.onnx.ml" is not imported`},
		{"no operator", edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Op = "" }), fault.Invalid, `node "n"|no operator`},
		{"control characters are quoted", edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Name, m.Graph.Nodes[0].Op = "../a\n", "\x1b[2J" }), fault.Unsupported, `"../a\n"|\x1b[2J`},
		{"attribute without a name", withAttribute(onnxtest.Int("", 1)), fault.Invalid, "has no name"},
		{"attribute twice", withAttribute(onnxtest.Int("a", 1), onnxtest.Int("a", 2)), fault.Invalid, `attribute "a"|more than once`},
		{"attribute of two values", withAttribute(onnxtest.Attribute{Name: "a", Value: onnxtest.Field(onnxtest.Varint(nil, 3, 1), 4, "s")}), fault.Invalid, `attribute "a"|two values`},
		{"attribute of another type", withAttribute(onnxtest.Attribute{Name: "a", Value: onnxtest.Field(onnxtest.Varint(nil, 20, 2), 4, "s")}), fault.Invalid, `attribute "a"|type 2 but holds type 3`},
		{"attribute of unknown type", withAttribute(onnxtest.Attribute{Name: "a", Value: onnxtest.Varint(nil, 20, 77)}), fault.Invalid, `attribute "a"|unknown type 77`},
		{"reference outside of a function", withAttribute(onnxtest.Attribute{Name: "a", Value: onnxtest.Field(nil, 21, "b")}), fault.Invalid, `attribute "a"|of a function`},
		{"unknown domain in a subgraph", withAttribute(onnxtest.GraphAttr("body", onnxtest.Graph{Nodes: []onnxtest.Node{{Op: "X", Domain: "evil"}}})), fault.Unsupported, `attribute "body"|"evil"`},
		{"node devices", nodeExtra(onnxtest.Field(nil, 10, "")), fault.Unsupported, "device_configurations"},

		// Local functions.
		{"expansion", onnxtest.FunctionBomb(40), fault.TooLarge, "more than 100000 nodes once"},
		{"call depth", onnxtest.FunctionChain(40), fault.TooLarge, "nest more than 16 deep"},
		{"recursion", onnxtest.RecursiveFunction(), fault.Invalid, "calls itself"},
		{"function without a name", function(onnxtest.Function{Domain: domain}), fault.Invalid, "has no name"},
		{"function in a standard domain", function(onnxtest.Function{Name: "Relu"}), fault.Unsupported, `"Relu"|redefine`},
		{"function in a reserved domain", function(onnxtest.Function{Name: "F", Domain: "ai.onnx.preview"}), fault.Unsupported, "redefine"},
		{"function twice", edit(func(m *onnxtest.Model) {
			m.Functions = []onnxtest.Function{{Name: "f", Domain: domain}, {Name: "f", Domain: domain}}
		}), fault.Invalid, `"f"|more than once`},
		{"function with an unknown domain", function(onnxtest.Function{Name: "f", Domain: domain, Nodes: []onnxtest.Node{{Op: "X", Domain: "evil"}}}), fault.Unsupported, `function "f"|"evil"`},
		{"function domain not imported", edit(func(m *onnxtest.Model) {
			m.Functions = []onnxtest.Function{{Name: "f", Domain: domain}}
			m.Graph.Nodes[0].Op, m.Graph.Nodes[0].Domain = "f", domain
		}), fault.Invalid, `"sluice.test" is not imported`},

		// Sizes that constants ask for.
		{"ConstantOfShape", onnxtest.HugeAllocation(), fault.TooLarge, `(ConstantOfShape)|input "shape"|1.09951e+12 elements`},
		{"ConstantOfShape from a node", edit(func(m *onnxtest.Model) {
			m.Graph.Nodes = append([]onnxtest.Node{
				{Op: "Constant", Out: []string{"s"}, Attributes: []onnxtest.Attribute{onnxtest.Ints("value_ints", 1<<40)}},
				{Op: "ConstantOfShape", In: []string{"s"}, Out: []string{"z"}}}, m.Graph.Nodes...)
		}), fault.TooLarge, `input "s"`},
		{"ConstantOfShape from an outer graph", edit(func(m *onnxtest.Model) {
			m.Graph.Initializers = []onnxtest.Tensor{i64("s", 1<<30)}
			m.Graph.Nodes[0].Attributes = []onnxtest.Attribute{onnxtest.GraphAttr("body", onnxtest.Graph{Nodes: []onnxtest.Node{{Op: "ConstantOfShape", In: []string{"s"}, Out: []string{"z"}}}})}
		}), fault.TooLarge, `attribute "body"|input "s"`},
		{"ConstantOfShape of typed data", withNode("ConstantOfShape", []string{"s"}, []onnxtest.Tensor{{Name: "s", Type: 7, Dims: []int64{1}, Extra: onnxtest.Varint(nil, 7, 1<<50)}}), fault.TooLarge, `input "s"`},
		{"ConstantOfShape of many dimensions", withNode("ConstantOfShape", []string{"s"}, []onnxtest.Tensor{i64("s", make([]int64, 100)...)}), fault.TooLarge, `input "s"|+Inf`},
		{"Expand", withNode("Expand", []string{"x", "s"}, []onnxtest.Tensor{i64("s", 1<<15, 1<<15)}), fault.TooLarge, "(Expand)"},
		{"Tile", withNode("Tile", []string{"x", "r"}, []onnxtest.Tensor{i64("r", 1<<30, 1)}), fault.TooLarge, "(Tile)"},
		{"Tile of a constant", withNode("Tile", []string{"c", "r"}, []onnxtest.Tensor{onnxtest.Floats("c", []int64{4096}, make([]float32, 4096)...), i64("r", 1<<20)}), fault.TooLarge, "(Tile)"},
		{"Range", withNode("Range", []string{"a", "b", "c"}, []onnxtest.Tensor{onnxtest.Int64("a", 0), onnxtest.Int64("b", 1<<40), onnxtest.Int64("c", 1)}), fault.TooLarge, "(Range)"},
		{"Range of tiny steps", withNode("Range", []string{"a", "b", "c"}, []onnxtest.Tensor{onnxtest.Floats("a", nil, 0), onnxtest.Floats("b", nil, 1), onnxtest.Floats("c", nil, 1e-20)}), fault.TooLarge, "(Range)"},
		{"Range without a step", withNode("Range", []string{"a", "b", "c"}, []onnxtest.Tensor{onnxtest.Int64("a", 0), onnxtest.Int64("b", 1), onnxtest.Int64("c", 0)}), fault.Invalid, "step of 0"},
		{"Resize sizes", withNode("Resize", []string{"x", "", "", "s"}, []onnxtest.Tensor{i64("s", 1, 1, 1<<20, 1<<20)}), fault.TooLarge, "(Resize)"},
		{"Resize scales", withNode("Resize", []string{"x", "", "s"}, []onnxtest.Tensor{onnxtest.Floats("s", []int64{2}, 1e10, 1e10)}), fault.TooLarge, "(Resize)"},
		{"Resize scales NaN", withNode("Resize", []string{"x", "", "s"}, []onnxtest.Tensor{{Name: "s", Type: 1, Dims: []int64{1}, Raw: []byte{0, 0, 0xc0, 0x7f}}}), fault.TooLarge, "(Resize)"},
		{"Pad", withNode("Pad", []string{"x", "p"}, []onnxtest.Tensor{i64("p", 0, 1<<20, 0, 1<<40)}), fault.TooLarge, "(Pad)"},
		{"Pad attribute", withNode("Pad", []string{"x"}, nil, onnxtest.Ints("pads", 1<<20, 1<<20, 0, 0)), fault.TooLarge, `(Pad)|attribute "pads"`},
		{"OneHot", withNode("OneHot", []string{"x", "d", "v"}, []onnxtest.Tensor{onnxtest.Int64("d", 1<<40)}), fault.TooLarge, `(OneHot)|input "d"`},
		{"RandomNormal", withNode("RandomNormal", nil, nil, onnxtest.Ints("shape", 1<<20, 1<<20)), fault.TooLarge, `(RandomNormal)|attribute "shape"`},
		{"RandomUniform", withNode("RandomUniform", nil, nil, onnxtest.Ints("shape", 1<<62, 1<<62)), fault.TooLarge, "(RandomUniform)"},
		{"HannWindow", withNode("HannWindow", []string{"n"}, []onnxtest.Tensor{onnxtest.Int64("n", 1<<40)}), fault.TooLarge, "(HannWindow)"},
		{"Conv", withNode("Conv", []string{"x"}, nil, onnxtest.Ints("pads", 1<<20, 1<<20, 1<<20, 1<<20)), fault.TooLarge, "(Conv)"},
		{"EyeLike of a huge shape", withNode("ConstantOfShape", []string{"s"}, []onnxtest.Tensor{i64("s", 1<<16, 1<<16)}), fault.TooLarge, "(ConstantOfShape)"},
		{"Loop that stacks outputs", withNode("Loop", []string{"n"}, []onnxtest.Tensor{onnxtest.Int64("n", 1<<40)}), fault.TooLarge, `(Loop)|trip count "n"`},
		{"vocabulary", withNode("TfIdfVectorizer", []string{"x"}, nil, onnxtest.Ints("ngram_indexes", 0, 1<<40)), fault.TooLarge, "ngram_indexes"},
		{"vocabulary negative", withNode("TfIdfVectorizer", []string{"x"}, nil, onnxtest.Ints("ngram_indexes", -1)), fault.Invalid, "negative index -1"},
		{"trees", edit(func(m *onnxtest.Model) {
			m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "ai.onnx.ml", Version: 3}}
			m.Graph.Nodes[0] = onnxtest.Node{Op: "TreeEnsembleRegressor", Domain: "ai.onnx.ml", In: []string{"x"}, Out: []string{"y"}, Attributes: []onnxtest.Attribute{onnxtest.Int("n_targets", 1<<40)}}
		}), fault.TooLarge, `TreeEnsembleRegressor|attribute "n_targets"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Inspect(c.data, DefaultLimits())
			if err == nil {
				t.Fatalf("accepted: %+v", m)
			}
			if !fault.Is(err, c.kind) {
				t.Errorf("kind %v, want %v: %v", fault.Of(err).Kind, c.kind, err)
			}
			for part := range strings.SplitSeq(c.says, "|") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("message %q does not contain %q", err, part)
				}
			}
			if len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("message is long or has control characters: %q", err)
			}
		})
	}
}

// deepType is n sequences inside of each other.
func deepType(n int) []byte {
	typ := typeOf(1)
	for range n {
		typ = onnxtest.Field(nil, 4, onnxtest.Field(nil, 1, typ))
	}
	return typ
}

func slicesOf[T any](n int, of func(int) T) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = of(i)
	}
	return s
}

func TestRefusesHostileCorpus(t *testing.T) {
	for name, data := range onnxtest.Hostile() {
		if m, err := Inspect(data, DefaultLimits()); err == nil {
			t.Errorf("%s: accepted: %+v", name, m)
		} else if fault.Is(err, fault.Internal) {
			t.Errorf("%s: internal error %v", name, err)
		}
	}
}

// TestLimits sets each limit to just what a model needs, and to one less.
func TestLimits(t *testing.T) {
	mlp := onnxtest.MLP(1, 4, 16, 3)
	nested := onnxtest.Nested(3)
	functions := onnxtest.Functions()
	for _, c := range []struct {
		name string
		data []byte
		need int
		set  func(l *Limits, n int)
	}{
		{"bytes", mlp, len(mlp), func(l *Limits, n int) { l.MaxBytes = int64(n) }},
		{"depth", nested, 5, func(l *Limits, n int) { l.MaxDepth = n }}, // the graph, 3 branches, a type
		{"nodes", mlp, 3, func(l *Limits, n int) { l.MaxNodes = n }},
		{"nodes after expansion", functions, 6, func(l *Limits, n int) { l.MaxNodes = n }},
		{"tensors", mlp, 4, func(l *Limits, n int) { l.MaxTensors = n }},
		{"attributes", nested, 6, func(l *Limits, n int) { l.MaxAttributes = n }},
		{"values", mlp, 2, func(l *Limits, n int) { l.MaxValues = n }},
		{"functions", functions, 3, func(l *Limits, n int) { l.MaxFunctions = n }},
		{"name bytes", mlp, len("gemmh0"), func(l *Limits, n int) { l.MaxNameBytes = n }},
		{"ports", onnxtest.AddSub(), 2, func(l *Limits, n int) { l.MaxPorts = n }},
		{"dims", mlp, 2, func(l *Limits, n int) { l.MaxDims = n }},
		{"elements", mlp, 4, func(l *Limits, n int) { l.MaxElements = int64(n) }},
		{"IR", mlp, 8, func(l *Limits, n int) { l.MaxIR = int64(n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits := DefaultLimits()
			c.set(&limits, c.need)
			if _, err := Inspect(c.data, limits); err != nil {
				t.Errorf("at the limit %d: %v", c.need, err)
			}
			c.set(&limits, c.need-1)
			if _, err := Inspect(c.data, limits); err == nil {
				t.Errorf("over the limit %d: accepted", c.need-1)
			}
		})
	}
}
