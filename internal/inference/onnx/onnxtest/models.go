package onnxtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"sluice/internal/inference/tensor"
)

// Datatypes are all types that a model's port can have.
func Datatypes() []tensor.Datatype {
	return []tensor.Datatype{
		tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16, tensor.Int32,
		tensor.Int64, tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64, tensor.Bytes,
	}
}

// Identity returns each input as it is: for each type an input "in_<type>"
// and an output "out_<type>" of shape [batch, n_<type>], such as "in_fp32".
func Identity(types ...tensor.Datatype) []byte {
	var g Graph
	for _, t := range types {
		low := strings.ToLower(t.String())
		g.Nodes = append(g.Nodes, Node{Op: "Identity", Name: low, In: []string{"in_" + low}, Out: []string{"out_" + low}})
		g.Inputs = append(g.Inputs, Value{"in_" + low, t, "batch,n_" + low})
		g.Outputs = append(g.Outputs, Value{"out_" + low, t, "batch,n_" + low})
	}
	return Model{Graph: g}.Encode()
}

// Echo has its inputs as outputs, with no node between them: for each type a
// port "x_<type>" of shape [batch, 3]. A node makes an output "seen" of
// that of FP32, which has to be among them.
func Echo(types ...tensor.Datatype) []byte {
	g := Graph{
		Nodes: []Node{{Op: "Relu", Name: "relu", In: []string{"x_fp32"}, Out: []string{"seen"}}},
	}
	for _, t := range types {
		port := Value{"x_" + strings.ToLower(t.String()), t, "batch,3"}
		g.Inputs = append(g.Inputs, port)
		g.Outputs = append(g.Outputs, port)
	}
	g.Outputs = append(g.Outputs, Value{"seen", tensor.FP32, "batch,3"})
	return Model{Graph: g}.Encode()
}

// MLP is a multi-layer perceptron with Relu between its layers: x FP32
// [batch, sizes[0]] to y FP32 [batch, sizes[last]]. Equal seeds and sizes
// give equal files.
func MLP(seed uint64, sizes ...int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	last := len(sizes) - 1
	var g Graph
	x := "x"
	for i := range last {
		in, out := sizes[i], sizes[i+1]
		w := Tensor{Name: fmt.Sprintf("w%d", i), Type: 1, Dims: []int64{int64(in), int64(out)}}
		for range in * out {
			v := float32(random.NormFloat64() / math.Sqrt(float64(in)))
			w.Raw = binary.LittleEndian.AppendUint32(w.Raw, math.Float32bits(v))
		}
		b := Floats(fmt.Sprintf("b%d", i), []int64{int64(out)}, make([]float32, out)...)
		y := fmt.Sprintf("h%d", i)
		if i == last-1 {
			y = "y"
		}
		g.Initializers = append(g.Initializers, w, b)
		g.Nodes = append(g.Nodes, Node{Op: "Gemm", Name: "gemm" + y, In: []string{x, w.Name, b.Name}, Out: []string{y}})
		if x = y; i < last-1 {
			x = "r" + y
			g.Nodes = append(g.Nodes, Node{Op: "Relu", Name: x, In: []string{y}, Out: []string{x}})
		}
	}
	g.Inputs = []Value{{"x", tensor.FP32, fmt.Sprintf("batch,%d", sizes[0])}}
	g.Outputs = []Value{{"y", tensor.FP32, fmt.Sprintf("batch,%d", sizes[last])}}
	return Model{Graph: g}.Encode()
}

// unary is a model of one chain: x FP32 of the shape to y of the type and
// shape.
func unary(in string, t tensor.Datatype, out string, nodes []Node, initializers ...Tensor) []byte {
	return Model{Graph: Graph{
		Nodes: nodes, Initializers: initializers,
		Inputs:  []Value{{"x", tensor.FP32, in}},
		Outputs: []Value{{"y", t, out}},
	}}.Encode()
}

// BatchMean subtracts from each row the mean over the batch: x FP32 [batch, 4]
// to y FP32 [batch, 4]. A row's answer depends on its neighbours.
func BatchMean() []byte {
	return unary("batch,4", tensor.FP32, "batch,4", []Node{
		{Op: "ReduceMean", In: []string{"x"}, Out: []string{"mean"}, Attributes: []Attribute{Ints("axes", 0), Int("keepdims", 1)}},
		{Op: "Sub", In: []string{"x", "mean"}, Out: []string{"y"}},
	})
}

// BatchPrefix adds to each row all rows before it: x FP32 [batch, 4] to y FP32
// [batch, 4]. The first row's answer does not depend on its neighbours, that
// of the others does.
func BatchPrefix() []byte {
	return unary("batch,4", tensor.FP32, "batch,4", []Node{{Op: "CumSum", In: []string{"x", "axis"}, Out: []string{"y"}}},
		Int64("axis", 0))
}

// BatchSize multiplies each row by the number of rows: x FP32 [batch, 4] to y
// FP32 [batch, 4].
func BatchSize() []byte {
	return unary("batch,4", tensor.FP32, "batch,4", []Node{
		{Op: "Shape", In: []string{"x"}, Out: []string{"shape"}, Attributes: []Attribute{Int("start", 0), Int("end", 1)}},
		{Op: "Cast", In: []string{"shape"}, Out: []string{"rows"}, Attributes: []Attribute{Int("to", 1)}},
		{Op: "Mul", In: []string{"x", "rows"}, Out: []string{"y"}},
	})
}

// LargeMean replaces each element over 50 by the mean of its column over the
// batch: x FP32 [batch, 4] to y FP32 [batch, 4]. Only the answers of rows with
// such elements depend on their neighbours.
func LargeMean() []byte {
	return unary("batch,4", tensor.FP32, "batch,4", []Node{
		{Op: "ReduceMean", In: []string{"x"}, Out: []string{"mean"}, Attributes: []Attribute{Ints("axes", 0), Int("keepdims", 1)}},
		{Op: "Greater", In: []string{"x", "fifty"}, Out: []string{"is_large"}},
		{Op: "Where", In: []string{"is_large", "mean", "x"}, Out: []string{"y"}},
	}, Floats("fifty", nil, 50))
}

// Squeezed subtracts the mean over a sequence, but drops its dimension first
// where it has one element, and then takes the mean over the batch: x FP32
// [batch, seq] to y FP32 [batch, seq].
func Squeezed() []byte {
	return unary("batch,seq", tensor.FP32, "batch,seq", []Node{
		{Op: "Squeeze", In: []string{"x"}, Out: []string{"squeezed"}},
		{Op: "ReduceMean", In: []string{"squeezed"}, Out: []string{"mean"}, Attributes: []Attribute{Ints("axes", -1), Int("keepdims", 1)}},
		{Op: "Sub", In: []string{"x", "mean"}, Out: []string{"y"}},
	})
}

// Quantized rounds to 8 bits by the range of all values in the batch: x FP32
// [batch, 4] to y FP32 [batch, 4].
func Quantized() []byte {
	return unary("batch,4", tensor.FP32, "batch,4", quantize("x", "y"))
}

func quantize(x, y string) []Node {
	return []Node{
		{Op: "DynamicQuantizeLinear", In: []string{x}, Out: []string{"q", "scale", "zero"}},
		{Op: "DequantizeLinear", In: []string{"q", "scale", "zero"}, Out: []string{y}},
	}
}

// QuantizedLookup averages what it finds in a table of the given size, rounded
// to 8 bits by the range of all that the batch finds: x and kind INT64
// [batch, 4] to y FP32 [batch]. The table holds 0, 0, 0, 0, 4, 4, 4, 4, 8 and
// so on, so rows of zeros and ones are rounded alike in any company. The run
// fails for any x outside of the table and for any kind but -2 to 1, which
// makes no difference to the answer.
func QuantizedLookup(size int) []byte {
	table := make([]float32, size)
	for i := range table {
		table[i] = float32(i - i%4)
	}
	nodes := append([]Node{
		{Op: "Gather", In: []string{"table", "x"}, Out: []string{"found"}},
		{Op: "Gather", In: []string{"kinds", "kind"}, Out: []string{"nothing"}},
		{Op: "Add", In: []string{"found", "nothing"}, Out: []string{"sum"}},
	}, quantize("sum", "rounded")...)
	return Model{Graph: Graph{
		Nodes: append(nodes, Node{Op: "ReduceMean", In: []string{"rounded"}, Out: []string{"y"},
			Attributes: []Attribute{Ints("axes", 1), Int("keepdims", 0)}}),
		Initializers: []Tensor{Floats("table", []int64{int64(size)}, table...), Floats("kinds", []int64{2}, 0, 0)},
		Inputs:       []Value{{"x", tensor.Int64, "batch,4"}, {"kind", tensor.Int64, "batch,4"}},
		Outputs:      []Value{{"y", tensor.FP32, "batch"}},
	}}.Encode()
}

// SequenceMean averages over a varying sequence: x FP32 [batch, seq, 2] to y
// FP32 [batch, 2]. Padding the sequence changes the answer.
func SequenceMean() []byte {
	return unary("batch,seq,2", tensor.FP32, "batch,2", []Node{
		{Op: "ReduceMean", In: []string{"x"}, Out: []string{"y"}, Attributes: []Attribute{Ints("axes", 1), Int("keepdims", 0)}},
	})
}

// Slow runs a Loop of the given number of trips, each some microseconds, and
// cannot be folded away: x FP32 [batch, 64] to y FP32 [batch, 64]. A cancelled
// run ends between two trips.
func Slow(iterations int64) []byte {
	return slow(nil, Int64("trips", iterations))
}

// Patient is Slow for as many trips as the largest number of x says.
func Patient() []byte {
	return slow([]Node{
		{Op: "ReduceMax", In: []string{"x"}, Out: []string{"most"}, Attributes: []Attribute{Int("keepdims", 0)}},
		{Op: "Cast", In: []string{"most"}, Out: []string{"trips"}, Attributes: []Attribute{Int("to", int64(onnxTypes[tensor.Int64]))}},
	})
}

// slow runs the loop of Slow; nodes before it, or constants, say how often.
func slow(before []Node, constants ...Tensor) []byte {
	weights := Floats("w", []int64{64, 64}, make([]float32, 64*64)...)
	for i := range 64 { // a rotation: keeps the values' size
		binary.LittleEndian.PutUint32(weights.Raw[4*(64*i+(i+1)%64):], math.Float32bits(1))
	}
	body := Graph{
		Nodes: []Node{
			{Op: "MatMul", In: []string{"v", "w"}, Out: []string{"vw"}},
			{Op: "Tanh", In: []string{"vw"}, Out: []string{"next"}},
			{Op: "Identity", In: []string{"go"}, Out: []string{"again"}},
		},
		Inputs:  []Value{{"i", tensor.Int64, ""}, {"go", tensor.Bool, ""}, {"v", tensor.FP32, "batch,64"}},
		Outputs: []Value{{"again", tensor.Bool, ""}, {"next", tensor.FP32, "batch,64"}},
	}
	loop := Node{Op: "Loop", Name: "slow", In: []string{"trips", "true", "x"}, Out: []string{"y"}, Attributes: []Attribute{GraphAttr("body", body)}}
	return unary("batch,64", tensor.FP32, "batch,64", append(before, loop), append(constants, Tensor{Name: "true", Type: 9, Raw: []byte{1}}, weights)...)
}

// FixedBatch doubles its input, whose batch dimension is fixed: x FP32 [n, 4]
// to y FP32 [n, 4].
func FixedBatch(n int) []byte {
	shape := fmt.Sprintf("%d,4", n)
	return unary(shape, tensor.FP32, shape, []Node{{Op: "Add", In: []string{"x", "x"}, Out: []string{"y"}}})
}

// Cast converts FP32 to a type: x FP32 [batch, 4] to y [batch, 4]. For FP16
// and BF16 it is the smallest model with such an output.
func Cast(to tensor.Datatype) []byte {
	return unary("batch,4", to, "batch,4", []Node{
		{Op: "Cast", In: []string{"x"}, Out: []string{"y"}, Attributes: []Attribute{Int("to", int64(onnxTypes[to]))}},
	})
}

// Exclaim appends "!" to strings: x BYTES [batch, 1] to y BYTES [batch, 1].
func Exclaim() []byte {
	return Model{IR: 9, Opsets: []Opset{{"", 20}}, Graph: Graph{
		Nodes:        []Node{{Op: "StringConcat", In: []string{"x", "mark"}, Out: []string{"y"}}},
		Initializers: []Tensor{Strings("mark", "!")},
		Inputs:       []Value{{"x", tensor.Bytes, "batch,1"}},
		Outputs:      []Value{{"y", tensor.Bytes, "batch,1"}},
	}}.Encode()
}

// NonZero has an output whose shape depends on the data: x FP32 [batch, 4] to
// y INT64 [2, n], the indices of the elements that are not 0.
func NonZero() []byte {
	return unary("batch,4", tensor.Int64, "2,n", []Node{{Op: "NonZero", In: []string{"x"}, Out: []string{"y"}}})
}

// Unshaped is Identity for FP32 [batch, 4] with an output that declares no
// shape: x to y.
func Unshaped() []byte {
	return unary("batch,4", tensor.FP32, "*", []Node{{Op: "Identity", In: []string{"x"}, Out: []string{"y"}}})
}

// Scalar adds 1 to a scalar: x FP32 [] to y FP32 [].
func Scalar() []byte {
	return unary("", tensor.FP32, "", []Node{{Op: "Add", In: []string{"x", "one"}, Out: []string{"y"}}}, Floats("one", nil, 1))
}

// AddSub has two inputs and two outputs: a, b FP32 [batch, 4] to sum = a+b and
// difference = a-b, FP32 [batch, 4].
func AddSub() []byte {
	return Model{Graph: Graph{
		Nodes: []Node{
			{Op: "Add", In: []string{"a", "b"}, Out: []string{"sum"}},
			{Op: "Sub", In: []string{"a", "b"}, Out: []string{"difference"}},
		},
		Inputs:  []Value{{"a", tensor.FP32, "batch,4"}, {"b", tensor.FP32, "batch,4"}},
		Outputs: []Value{{"sum", tensor.FP32, "batch,4"}, {"difference", tensor.FP32, "batch,4"}},
	}}.Encode()
}

// Lookup maps an index to 10 times itself: x INT64 [batch, 1] to y FP32
// [batch, 1]. The run fails for any index outside of -4 to 3.
func Lookup() []byte {
	return Model{Graph: Graph{
		Nodes:        []Node{{Op: "Gather", In: []string{"table", "x"}, Out: []string{"y"}}},
		Initializers: []Tensor{Floats("table", []int64{4}, 0, 10, 20, 30)},
		Inputs:       []Value{{"x", tensor.Int64, "batch,1"}},
		Outputs:      []Value{{"y", tensor.FP32, "batch,1"}},
	}}.Encode()
}

// Functions computes 8x through nested local functions: x FP32 [batch, 4] to
// y FP32 [batch, 4].
func Functions() []byte { return functions(2, 1).Encode() }

// functions returns a model whose graph calls f<levels> once, where each
// function calls the one below `calls` times and f0 doubles its input.
func functions(levels, calls int) Model {
	const domain = "sluice.test"
	opsets := []Opset{{"", 17}, {domain, 1}}
	double := Node{Op: "Add", In: []string{"x", "x"}, Out: []string{"y"}}
	m := Model{Opsets: opsets, Functions: []Function{{Name: "f0", Domain: domain, In: []string{"x"}, Out: []string{"y"}, Nodes: []Node{double}}}}
	for level := 1; level <= levels; level++ {
		f := Function{Name: fmt.Sprintf("f%d", level), Domain: domain, In: []string{"x"}, Out: []string{"y"}, Opsets: opsets}
		x := "x"
		for i := range calls {
			y := fmt.Sprintf("y%d", i)
			f.Nodes = append(f.Nodes, Node{Op: fmt.Sprintf("f%d", level-1), Domain: domain, In: []string{x}, Out: []string{y}})
			x = y
		}
		f.Nodes = append(f.Nodes, Node{Op: "Add", In: []string{x, x}, Out: []string{"y"}})
		m.Functions = append(m.Functions, f)
	}
	m.Graph = Graph{
		Nodes:   []Node{{Op: fmt.Sprintf("f%d", levels), Domain: domain, In: []string{"x"}, Out: []string{"y"}}},
		Inputs:  []Value{{"x", tensor.FP32, "batch,4"}},
		Outputs: []Value{{"y", tensor.FP32, "batch,4"}},
	}
	return m
}

// Nested passes its input through n Ifs inside of each other: x FP32
// [batch, 4] to y FP32 [batch, 4].
func Nested(n int) []byte {
	nodes := []Node{{Op: "Identity", In: []string{"x"}}}
	for i := range n {
		name := fmt.Sprintf("y%d", i) // names are unique across the levels
		nodes[0].Out = []string{name}
		branch := Graph{Nodes: nodes, Outputs: []Value{{name, tensor.FP32, "batch,4"}}}
		other := Graph{Nodes: []Node{{Op: "Identity", In: []string{"x"}, Out: []string{"o" + name}}}, Outputs: []Value{{"o" + name, tensor.FP32, "batch,4"}}}
		nodes = []Node{{Op: "If", In: []string{"yes"}, Attributes: []Attribute{GraphAttr("then_branch", branch), GraphAttr("else_branch", other)}}}
	}
	nodes[0].Out = []string{"y"}
	return unary("batch,4", tensor.FP32, "batch,4", nodes, Tensor{Name: "yes", Type: 9, Raw: []byte{1}})
}

// Models returns every honest model of this package by name, in small sizes.
func Models() map[string][]byte {
	models := map[string][]byte{
		"identity_all": Identity(Datatypes()...), "echo": Echo(Datatypes()...), "mlp": MLP(1, 4, 16, 3), "batch_mean": BatchMean(), "batch_prefix": BatchPrefix(),
		"batch_size": BatchSize(), "large_mean": LargeMean(), "squeezed": Squeezed(), "quantized": Quantized(), "quantized_lookup": QuantizedLookup(500),
		"sequence_mean": SequenceMean(), "slow": Slow(1000), "fixed_batch": FixedBatch(2), "exclaim": Exclaim(), "nonzero": NonZero(),
		"unshaped": Unshaped(), "scalar": Scalar(), "add_sub": AddSub(), "lookup": Lookup(), "functions": Functions(),
		"cast_fp16": Cast(tensor.FP16), "cast_bf16": Cast(tensor.BF16), "nested": Nested(3),
	}
	for _, t := range Datatypes() {
		models["identity_"+strings.ToLower(t.String())] = Identity(t)
	}
	return models
}

// Rolling keeps a checksum of the numbers it is given: x INT64 [batch, 1] of 0 to
// 999, else the run fails, and state INT64 [batch, 1] to state_out = (31 state +
// x) mod 1000003, y, which is the same, and next = y mod 1000.
func Rolling() []byte {
	return Model{Graph: Graph{
		Nodes: []Node{
			{Op: "Gather", In: []string{"table", "x"}, Out: []string{"known"}},
			{Op: "Mul", In: []string{"state", "factor"}, Out: []string{"shifted"}},
			{Op: "Add", In: []string{"shifted", "known"}, Out: []string{"sum"}},
			{Op: "Mod", In: []string{"sum", "prime"}, Out: []string{"state_out"}},
			{Op: "Identity", In: []string{"state_out"}, Out: []string{"y"}},
			{Op: "Mod", In: []string{"y", "thousand"}, Out: []string{"next"}},
		},
		Initializers: []Tensor{Int64s("table", numbers(1000)...), Int64("factor", 31), Int64("prime", 1000003), Int64("thousand", 1000)},
		Inputs:       []Value{{"x", tensor.Int64, "batch,1"}, {"state", tensor.Int64, "batch,1"}},
		Outputs:      []Value{{"y", tensor.Int64, "batch,1"}, {"next", tensor.Int64, "batch,1"}, {"state_out", tensor.Int64, "batch,1"}},
	}}.Encode()
}

func numbers(n int) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i)
	}
	return all
}
