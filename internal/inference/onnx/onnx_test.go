package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
)

func inspect(t *testing.T, data []byte) *Model {
	t.Helper()
	m, err := Inspect(data, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// port is "name TYPE shape", the shape with its symbols: "x FP32 batch,4".
// "?" is a varying extent without a name, "*" an unknown number of dimensions.
func port(spec string) model.Port {
	f := strings.SplitN(spec, " ", 3)
	datatype, err := tensor.Parse(f[1])
	if err != nil {
		panic(err)
	}
	p := model.Port{Name: f[0], Datatype: datatype}
	if f[2] == "*" {
		return p
	}
	if p.Shape = (tensor.Shape{}); f[2] == "" {
		return p
	}
	named := false
	for d := range strings.SplitSeq(f[2], ",") {
		extent, symbol := int64(0), ""
		for _, c := range d {
			extent = extent*10 + int64(c-'0')
		}
		if d[0] < '0' || d[0] > '9' {
			extent, symbol = -1, strings.TrimPrefix(d, "?")
		}
		named = named || symbol != ""
		p.Shape, p.Symbols = append(p.Shape, extent), append(p.Symbols, symbol)
	}
	if !named {
		p.Symbols = nil
	}
	return p
}

func signature(inputs, outputs []string) model.Signature {
	var s model.Signature
	for _, i := range inputs {
		s.Inputs = append(s.Inputs, port(i))
	}
	for _, o := range outputs {
		s.Outputs = append(s.Outputs, port(o))
	}
	return s
}

func TestSignature(t *testing.T) {
	xy := func(x, y string) model.Signature { return signature([]string{"x " + x}, []string{"y " + y}) }
	for name, want := range map[string]model.Signature{
		"mlp": xy("FP32 batch,4", "FP32 batch,3"), "batch_mean": xy("FP32 batch,4", "FP32 batch,4"),
		"sequence_mean": xy("FP32 batch,seq,2", "FP32 batch,2"), "slow": xy("FP32 batch,64", "FP32 batch,64"),
		"fixed_batch": xy("FP32 2,4", "FP32 2,4"), "exclaim": xy("BYTES batch,1", "BYTES batch,1"),
		"nonzero": xy("FP32 batch,4", "INT64 2,n"), "unshaped": xy("FP32 batch,4", "FP32 *"), "scalar": xy("FP32 ", "FP32 "),
		"lookup": xy("INT64 batch,1", "FP32 batch,1"), "cast_fp16": xy("FP32 batch,4", "FP16 batch,4"),
		"functions": xy("FP32 batch,4", "FP32 batch,4"), "nested": xy("FP32 batch,4", "FP32 batch,4"),
		"add_sub": signature([]string{"a FP32 batch,4", "b FP32 batch,4"}, []string{"sum FP32 batch,4", "difference FP32 batch,4"}),
	} {
		got := inspect(t, onnxtest.Models()[name]).Signature
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	unnamed := inspect(t, edit(func(m *onnxtest.Model) { m.Graph.Inputs[0].Shape = "?,4" }))
	if diff := cmp.Diff(port("x FP32 ?,4"), unnamed.Signature.Inputs[0]); diff != "" {
		t.Error(diff)
	}
}

func TestIdentityOfEveryDatatype(t *testing.T) {
	var want model.Signature
	for _, d := range onnxtest.Datatypes() {
		low := strings.ToLower(d.String())
		want.Inputs = append(want.Inputs, port("in_"+low+" "+d.String()+" batch,n_"+low))
		want.Outputs = append(want.Outputs, port("out_"+low+" "+d.String()+" batch,n_"+low))
	}
	got := inspect(t, onnxtest.Identity(onnxtest.Datatypes()...))
	if diff := cmp.Diff(want, got.Signature); diff != "" {
		t.Error(diff)
	}
}

func TestDescription(t *testing.T) {
	data := edit(func(m *onnxtest.Model) {
		m.IR = 9
		m.Producer = "tool"
		m.Extra = onnxtest.Field(nil, 3, "1.2")
		m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "ai.onnx.ml", Version: 3}, {Domain: "never.used", Version: 2}}
		m.Metadata = [][2]string{{"classes", "a,b"}, {"empty", ""}}
		m.Graph.Nodes = append(m.Graph.Nodes, onnxtest.Node{Op: "Scaler", Domain: "ai.onnx.ml", In: []string{"x"}, Out: []string{"s"}},
			onnxtest.Node{Op: "Identity", Domain: "ai.onnx", In: []string{"x"}, Out: []string{"i"}})
		m.Graph.Initializers = []onnxtest.Tensor{onnxtest.Floats("w", []int64{2, 3}, make([]float32, 6)...), onnxtest.Int64("c", 1)}
	})
	sum := sha256.Sum256(data)
	want := &Model{
		IRVersion: 9, Producer: "tool 1.2", Opsets: map[string]int64{"ai.onnx": 17, "ai.onnx.ml": 3, "never.used": 2},
		Signature: signature([]string{"x FP32 batch,4"}, []string{"y FP32 batch,4"}),
		Operators: map[string]int{"Identity": 2, "ai.onnx.ml.Scaler": 1}, Nodes: 3, Parameters: 7,
		SHA256: hex.EncodeToString(sum[:]), Metadata: map[string]string{"classes": "a,b", "empty": ""},
	}
	got := inspect(t, data)
	clear(data) // the description must not share memory with the file
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestAccepts has what looks unusual and is fine.
func TestAccepts(t *testing.T) {
	i64 := onnxtest.Int64s
	typed := func(typ int32, num protowire.Number, n int64, packed []byte) []byte {
		return withTensor(onnxtest.Tensor{Name: "w", Type: typ, Dims: []int64{n}, Extra: onnxtest.Field(nil, num, packed)})
	}
	for name, data := range map[string][]byte{
		"default value of an input": edit(func(m *onnxtest.Model) {
			m.Graph.Inputs = append(m.Graph.Inputs, onnxtest.Value{Name: "w", Type: tensor.FP32, Shape: "1"})
			m.Graph.Initializers = []onnxtest.Tensor{onnxtest.Floats("w", []int64{1}, 1)}
		}),
		"initializer without elements": withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{0, 5}}),
		"empty raw data":               withTensor(onnxtest.Tensor{Name: "w", Type: 1, Dims: []int64{0}, Raw: []byte{}}),
		"packed floats":                typed(1, 4, 2, make([]byte, 8)),
		"packed bools":                 typed(9, 5, 3, []byte{0, 1, 1}),
		"packed int4":                  typed(22, 5, 5, []byte{1, 2, 3}),
		"packed uint2":                 typed(25, 5, 5, []byte{1, 2}),
		"packed uint64":                typed(13, 11, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),
		"unpacked int64": withTensor(onnxtest.Tensor{Name: "w", Type: 7, Dims: []int64{2},
			Extra: onnxtest.Varint(onnxtest.Varint(nil, 7, 1), 7, 2)}),
		"packed dims": withTensor(onnxtest.Tensor{Name: "w", Type: 1, Raw: make([]byte, 24), Extra: onnxtest.Field(nil, 1, []byte{2, 3})}),
		"raw int4":    withTensor(onnxtest.Tensor{Name: "w", Type: 22, Dims: []int64{5}, Raw: make([]byte, 3)}),
		"sparse":      withSparse(sparseOf([]int64{4, 2}, 2, i64("", 1, 7))),
		"sparse in coordinates": withSparse(sparseOf([]int64{4, 2}, 1, onnxtest.Tensor{Type: 7, Dims: []int64{1, 2},
			Raw: append(i64("", 3).Raw, i64("", 1).Raw...)})),
		"unused domain": edit(func(m *onnxtest.Model) {
			m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "pkg.unused", Version: 1}}
		}),
		"same opset twice":       edit(func(m *onnxtest.Model) { m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "ai.onnx", Version: 17}} }),
		"names of any character": edit(func(m *onnxtest.Model) { m.Graph.Nodes[0].Name = "../a\n\x00/ü" }),
		"contributed operator": edit(func(m *onnxtest.Model) {
			m.Opsets = []onnxtest.Opset{{Version: 17}, {Domain: "com.microsoft", Version: 1}}
			m.Graph.Nodes[0].Op, m.Graph.Nodes[0].Domain = "Gelu", "com.microsoft"
		}),
		"reference in a function": edit(func(m *onnxtest.Model) {
			m.Functions = []onnxtest.Function{{Name: "f", Domain: "d", Nodes: []onnxtest.Node{{Op: "Identity",
				Attributes: []onnxtest.Attribute{{Name: "a", Value: onnxtest.Field(onnxtest.Varint(nil, 20, 2), 21, "b")}}}}}}
		}),
		"scalar attribute left at 0": withAttribute(onnxtest.Attribute{Name: "axis", Value: onnxtest.Varint(nil, 20, 2)}),
		"long loop without stacking": onnxtest.Slow(1 << 50),
		"reshape to -1":              withNode("Reshape", []string{"x", "s"}, []onnxtest.Tensor{i64("s", 0, -1)}),
		"slice to the end":           withNode("Slice", []string{"x", "a", "b"}, []onnxtest.Tensor{i64("a", 0), i64("b", 1<<63-1)}),
		"resize with empty scales":   withNode("Resize", []string{"x", "r", "s", "z"}, []onnxtest.Tensor{onnxtest.Floats("r", []int64{0}), onnxtest.Floats("s", []int64{0}), i64("z", 1, 3, 224, 224)}),
		"range downwards":            withNode("Range", []string{"a", "b", "c"}, []onnxtest.Tensor{onnxtest.Int64("a", 10), onnxtest.Int64("b", 0), onnxtest.Int64("c", -1)}),
		"computed shape":             withNode("ConstantOfShape", []string{"computed"}, nil),
		"shape hidden by an input": edit(func(m *onnxtest.Model) {
			m.Graph.Initializers = []onnxtest.Tensor{i64("s", 1<<40)}
			m.Graph.Nodes[0].Attributes = []onnxtest.Attribute{onnxtest.GraphAttr("body", onnxtest.Graph{
				Inputs: []onnxtest.Value{{Name: "s", Type: tensor.Int64, Shape: "1"}},
				Nodes:  []onnxtest.Node{{Op: "ConstantOfShape", In: []string{"s"}, Out: []string{"z"}}}})}
		}),
	} {
		m, err := Inspect(data, DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if len(m.Signature.Inputs) != 1 || len(m.Signature.Outputs) != 1 {
			t.Errorf("%s: signature %+v", name, m.Signature)
		}
	}
}

// TestSampleModels inspects every model of the repository.
func TestSampleModels(t *testing.T) {
	want := map[string]model.Signature{
		"iris":     signature([]string{"input FP32 batch,4"}, []string{"probabilities FP32 batch,3", "label INT64 batch"}),
		"digits":   signature([]string{"image FP32 batch,1,8,8"}, []string{"probabilities FP32 batch,10"}),
		"diabetes": signature([]string{"input FP32 batch,10"}, []string{"prediction FP32 batch,1"}),
		"topic":    signature([]string{"text_input BYTES batch,1"}, []string{"label BYTES batch,1", "probabilities FP32 batch,8"}),
		"encoder":  signature([]string{"input_ids INT64 batch,sequence", "attention_mask INT64 batch,sequence"}, []string{"logits FP32 batch,6", "embedding FP32 batch,128"}),
		"nextchar": signature([]string{"char BYTES batch,1", "hidden FP32 batch,128"}, []string{"hidden_out FP32 batch,128", "next BYTES batch,1", "probabilities FP32 batch,96"}),
		"writer": signature([]string{"text BYTES batch,length", "hidden FP32 batch,128", "temperature FP32 batch,1", "seed INT64 batch,1"},
			[]string{"hidden_out FP32 batch,128", "seed_out INT64 batch,1", "next BYTES batch,1"}),
		"identity_fp32":  signature([]string{"input FP32 batch,n"}, []string{"output FP32 batch,n"}),
		"identity_int8":  signature([]string{"input INT8 batch,n"}, []string{"output INT8 batch,n"}),
		"identity_bytes": signature([]string{"text_input BYTES batch,n"}, []string{"text_output BYTES batch,n"}),
		"tiny_mlp":       signature([]string{"input FP32 batch,4"}, []string{"output FP32 batch,3"}),
		"mid_mlp":        signature([]string{"input FP32 batch,784"}, []string{"output FP32 batch,10"}),
		"small_cnn":      signature([]string{"input FP32 batch,1,28,28"}, []string{"output FP32 batch,10"}),
		"transformer":    signature([]string{"input FP32 batch,64,128"}, []string{"output FP32 batch,128"}),
		"identity":       inspect(t, onnxtest.Identity(onnxtest.Datatypes()...)).Signature,
	}
	root := filepath.Join("..", "..", "..")
	samples, err := filepath.Glob(filepath.Join(root, "models", "*", "*", "model.onnx"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("no sample models in the repository (%v)", err)
	}
	load, err := filepath.Glob(filepath.Join(root, "loadtest", "models", "*", "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(samples, load...) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		m, err := Inspect(data, DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(m.Signature.Inputs) == 0 || m.Nodes == 0 || m.Opsets["ai.onnx"] == 0 {
			t.Errorf("%s: %+v", name, m)
		}
		for _, p := range append(m.Signature.Inputs, m.Signature.Outputs...) {
			if len(p.Shape) == 0 || p.Shape[0] != -1 || p.Symbols[0] != "batch" {
				t.Errorf("%s: port %+v has no batch dimension", name, p)
			}
		}
		if diff := cmp.Diff(want[name], m.Signature); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
