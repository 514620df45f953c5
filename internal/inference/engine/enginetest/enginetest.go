// Package enginetest holds the contract of package engine as tests that every
// adapter passes, and builds the requests that they and other tests use.
package enginetest

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Spec returns what an engine needs to open a model file. A model batches
// where maxRows > 0.
func Spec(t testing.TB, name string, data []byte, maxRows int) engine.Spec {
	t.Helper()
	m, err := onnx.Inspect(data, onnx.DefaultLimits())
	if err != nil {
		t.Fatalf("the gate refuses model %q: %v", name, err)
	}
	return engine.Spec{Name: name, Data: data, Signature: &m.Signature, Batches: maxRows > 0, MaxRows: maxRows}
}

// Open opens a model file and closes it at the end of the test.
func Open(t testing.TB, e engine.Engine, name string, data []byte, maxRows int) engine.Session {
	t.Helper()
	s, err := e.Open(context.Background(), Spec(t, name, data, maxRows))
	if err != nil {
		t.Fatalf("open %q: %v", name, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Floats returns an FP32 tensor of rows of width 4 whose elements count up
// from first.
func Floats(name string, rows int, first float32) tensor.Tensor {
	t := tensor.Tensor{Name: name, Datatype: tensor.FP32, Shape: tensor.Shape{int64(rows), 4}}
	for i := range rows * 4 {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(first+float32(i)))
	}
	return t
}

// Values decodes FP32 data.
func Values(data []byte) []float32 {
	var out []float32
	for ; len(data) > 0; data = data[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return out
}

func part(rows int, inputs ...tensor.Tensor) *engine.Part {
	return &engine.Part{Rows: rows, Inputs: inputs}
}

// Run tests that an engine keeps the contract of its port.
func Run(t *testing.T, e engine.Engine) {
	for name, test := range map[string]func(*testing.T, engine.Engine){
		"RowsReturnToTheirParts":       rowsReturn,
		"EveryDatatype":                everyDatatype,
		"StringsWithAnyBytes":          anyStrings,
		"EmptyBatch":                   emptyBatch,
		"OutputsThatAreInputs":         echoes,
		"SeveralInputsAndOutputs":      severalPorts,
		"VaryingShapes":                varyingShapes,
		"UnlikeShapesAreRefused":       unlikeShapes,
		"DataDependentShape":           dataDependent,
		"UndeclaredShape":              undeclaredShape,
		"HalfPrecisionOutput":          halfOutput,
		"WithoutBatchDimension":        withoutBatch,
		"OutputThatIgnoresTheBatch":    ignoresBatch,
		"FailedRunLeavesSessionIntact": failedRun,
		"CancelledRunEndsEarly":        cancelled,
		"ContextEndsBetweenRuns":       endedBetween,
		"ConcurrentRuns":               concurrent,
		"WrongByteCountIsRefused":      wrongBytes,
		"CorruptModelIsRefused":        corrupt,
		"DivisionOverflowIsSurvived":   divisionOverflow,
		"HugeOutputIsRefused":          hugeOutput,
		"StringsOfOthersAreNotSeen":    stringsOfOthers,
	} {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

func rowsReturn(t *testing.T, e engine.Engine) {
	const maxRows = 16
	s := Open(t, e, "identity", onnxtest.Identity(tensor.FP32), maxRows)
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 5).Draw(t, "width")
		var parts []*engine.Part
		for left, next := maxRows, byte(1); left > 0; next++ {
			rows := rapid.IntRange(0, left).Draw(t, "rows")
			left -= max(rows, 1)
			p := part(rows, tensor.Tensor{Name: "in_fp32", Datatype: tensor.FP32, Shape: tensor.Shape{int64(rows), int64(width)}})
			for range rows * width {
				p.Inputs[0].Data = append(p.Inputs[0].Data, next, 0, byte(len(p.Inputs[0].Data)), 0x3f)
			}
			parts = append(parts, p)
		}
		if err := s.Run(context.Background(), parts); err != nil {
			t.Fatal(err)
		}
		for i, p := range parts {
			if got, in := p.Outputs[0], p.Inputs[0]; !slices.Equal(got.Data, in.Data) || !got.Shape.Equal(in.Shape) || got.Name != "out_fp32" {
				t.Fatalf("part %d put in %v and got %v", i, in, got)
			}
			p.Reset()
		}
	})
}

func everyDatatype(t *testing.T, e engine.Engine) {
	s := Open(t, e, "identity", onnxtest.Identity(onnxtest.Datatypes()...), 8)
	rapid.Check(t, func(t *rapid.T) {
		types := onnxtest.Datatypes()
		comesBack(t, s, types, rapid.SliceOfN(rapid.IntRange(0, 4), len(types), len(types)).Draw(t, "widths"))
	})
}

// comesBack runs some parts, with an input of each datatype and width, and checks that
// the outputs are what the inputs were. It returns the parts.
func comesBack(t *rapid.T, s engine.Session, types []tensor.Datatype, widths []int) []*engine.Part {
	var parts []*engine.Part
	for range rapid.IntRange(1, 3).Draw(t, "parts") {
		p := part(rapid.IntRange(1, 2).Draw(t, "rows"))
		for i, d := range types {
			in := tensor.Tensor{Datatype: d, Shape: tensor.Shape{int64(p.Rows), int64(widths[i])}}
			for range p.Rows * widths[i] {
				in.Data = append(in.Data, element(t, d)...)
			}
			p.Inputs = append(p.Inputs, in)
		}
		parts = append(parts, p)
	}
	if err := s.Run(context.Background(), parts); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		for i, in := range p.Inputs {
			if got := p.Outputs[i]; got.Datatype != in.Datatype || !got.Shape.Equal(in.Shape) || !slices.Equal(got.Data, in.Data) {
				t.Fatalf("put in %v, got %v", in, got)
			}
		}
	}
	return parts
}

func element(t *rapid.T, d tensor.Datatype) []byte {
	switch d {
	case tensor.Bool:
		return []byte{rapid.ByteRange(0, 1).Draw(t, "bool")}
	case tensor.Bytes:
		return tensor.AppendBytes(nil, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "bytes"))
	}
	return rapid.SliceOfN(rapid.Byte(), d.Size(), d.Size()).Draw(t, "element")
}

func anyStrings(t *testing.T, e engine.Engine) {
	s := Open(t, e, "exclaim", onnxtest.Exclaim(), 8)
	words := []string{"plain", "", "a\x00b", "\x00", "\xff\xfe not UTF-8", "ünïcode"}
	var parts []*engine.Part
	for _, w := range words {
		parts = append(parts, part(1, tensor.Tensor{Datatype: tensor.Bytes, Shape: tensor.Shape{1, 1}, Data: tensor.AppendBytes(nil, w)}))
	}
	if err := s.Run(context.Background(), parts); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if want := tensor.AppendBytes(nil, words[i]+"!"); !slices.Equal(p.Outputs[0].Data, want) {
			t.Errorf("%q became %q", words[i], p.Outputs[0].Data)
		}
	}
}

func emptyBatch(t *testing.T, e engine.Engine) {
	s := Open(t, e, "mlp", onnxtest.MLP(1, 4, 8, 3), 8)
	p := part(0, Floats("x", 0, 0))
	if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
		t.Fatal(err)
	}
	if got := p.Outputs[0]; !got.Shape.Equal(tensor.Shape{0, 3}) || len(got.Data) != 0 {
		t.Errorf("no rows gave %v", got)
	}
}

func severalPorts(t *testing.T, e engine.Engine) {
	s := Open(t, e, "addsub", onnxtest.AddSub(), 8)
	parts := []*engine.Part{
		part(1, Floats("a", 1, 10), Floats("b", 1, 1)),
		part(2, Floats("a", 2, 20), Floats("b", 2, 2)),
	}
	if err := s.Run(context.Background(), parts); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		a, b := Values(p.Inputs[0].Data), Values(p.Inputs[1].Data)
		sum, difference := Values(p.Outputs[0].Data), Values(p.Outputs[1].Data)
		for j := range a {
			if sum[j] != a[j]+b[j] || difference[j] != a[j]-b[j] {
				t.Fatalf("part %d: %v and %v gave %v and %v", i, a, b, sum, difference)
			}
		}
	}
}

func varyingShapes(t *testing.T, e engine.Engine) {
	s := Open(t, e, "sequence", onnxtest.SequenceMean(), 8)
	rapid.Check(t, func(t *rapid.T) {
		length, rows := rapid.IntRange(1, 40).Draw(t, "length"), rapid.IntRange(1, 8).Draw(t, "rows")
		in := tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{int64(rows), int64(length), 2}}
		for range rows * length * 2 {
			in.Data = binary.LittleEndian.AppendUint32(in.Data, math.Float32bits(3))
		}
		p := part(rows, in)
		if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
			t.Fatal(err)
		}
		if got := p.Outputs[0]; !got.Shape.Equal(tensor.Shape{int64(rows), 2}) || math.Abs(float64(Values(got.Data)[0]-3)) > 1e-5 {
			t.Fatalf("the mean of threes is %v", got)
		}
	})
}

func unlikeShapes(t *testing.T, e engine.Engine) {
	s := Open(t, e, "identity", onnxtest.Identity(tensor.Uint8), 8)
	in := func(width int) *engine.Part {
		return part(1, tensor.Tensor{Datatype: tensor.Uint8, Shape: tensor.Shape{1, int64(width)}, Data: make([]byte, width)})
	}
	if err := s.Run(context.Background(), []*engine.Part{in(2), in(3)}); err == nil {
		t.Error("rows of unlike shapes shared a run")
	}
}

func dataDependent(t *testing.T, e engine.Engine) {
	s := Open(t, e, "nonzero", onnxtest.NonZero(), 0)
	p := part(1, Floats("x", 1, 0)) // 0 1 2 3
	if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
		t.Fatal(err)
	}
	if !p.Outputs[0].Shape.Equal(tensor.Shape{2, 3}) {
		t.Errorf("three of four elements are not 0, but the shape is %s", p.Outputs[0].Shape)
	}
}

func undeclaredShape(t *testing.T, e engine.Engine) {
	s := Open(t, e, "unshaped", onnxtest.Unshaped(), 8)
	parts := []*engine.Part{part(1, Floats("x", 1, 5)), part(2, Floats("x", 2, 9))}
	if err := s.Run(context.Background(), parts); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if !slices.Equal(p.Outputs[0].Data, p.Inputs[0].Data) || !p.Outputs[0].Shape.Equal(p.Inputs[0].Shape) {
			t.Errorf("part %d got %v", i, p.Outputs[0])
		}
	}
}

func halfOutput(t *testing.T, e engine.Engine) {
	for d, one := range map[tensor.Datatype]uint16{tensor.FP16: 0x3c00, tensor.BF16: 0x3f80} {
		s := Open(t, e, "cast", onnxtest.Cast(d), 8)
		p := part(1, Floats("x", 1, 0))
		if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
			t.Fatal(err)
		}
		if got := p.Outputs[0]; len(got.Data) != 8 || binary.LittleEndian.Uint16(got.Data[2:]) != one {
			t.Errorf("1 as %s is %x", d, got.Data)
		}
	}
}

func withoutBatch(t *testing.T, e engine.Engine) {
	s := Open(t, e, "fixed", onnxtest.FixedBatch(2), 0)
	if err := s.Run(context.Background(), []*engine.Part{part(1, Floats("x", 2, 1))}); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background(), []*engine.Part{part(1, Floats("x", 2, 1)), part(1, Floats("x", 2, 1))}); err == nil {
		t.Error("a model without a batch dimension ran two parts at once")
	}
}

func ignoresBatch(t *testing.T, e engine.Engine) {
	s := Open(t, e, "nonzero", onnxtest.NonZero(), 8)
	if err := s.Run(context.Background(), []*engine.Part{part(1, Floats("x", 1, 1)), part(2, Floats("x", 2, 1))}); err == nil {
		t.Error("an output that has no rows was split among two parts")
	}
}

func failedRun(t *testing.T, e engine.Engine) {
	s := Open(t, e, "lookup", onnxtest.Lookup(), 8)
	index := func(i uint64) *engine.Part {
		return part(1, tensor.Tensor{Datatype: tensor.Int64, Shape: tensor.Shape{1, 1}, Data: binary.LittleEndian.AppendUint64(nil, i)})
	}
	for range 3 {
		bad, good := index(99), index(2)
		if err := s.Run(context.Background(), []*engine.Part{good, bad}); err == nil || len(good.Outputs) != 0 {
			t.Fatalf("an index out of range gave %v and error %v", good.Outputs, err)
		}
		if err := s.Run(context.Background(), []*engine.Part{good}); err != nil || Values(good.Outputs[0].Data)[0] != 20 {
			t.Fatalf("after a failed run: %v, %v", good.Outputs, err)
		}
	}
}

func concurrent(t *testing.T, e engine.Engine) {
	s := Open(t, e, "addsub", onnxtest.AddSub(), 8)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				zero := tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1, 4}, Data: make([]byte, 16)}
				p := part(1, Floats("a", 1, float32(1000*g+i)), zero)
				if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
					t.Error(err)
					return
				}
				if !slices.Equal(p.Outputs[0].Data, p.Inputs[0].Data) {
					t.Errorf("goroutine %d got another's answer: %v", g, Values(p.Outputs[0].Data))
				}
				p.Slab.Release()
			}
		})
	}
	wg.Wait()
}

func wrongBytes(t *testing.T, e engine.Engine) {
	s := Open(t, e, "identity", onnxtest.Identity(tensor.FP32), 8)
	for _, size := range []int{0, 4, 12, 20, 1 << 20} {
		p := part(1, tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1, 4}, Data: make([]byte, size)})
		if err := s.Run(context.Background(), []*engine.Part{p}); err == nil {
			t.Errorf("%d bytes filled a shape of 16", size)
		}
	}
}

func corrupt(t *testing.T, e engine.Engine) {
	spec := Spec(t, "mlp", onnxtest.MLP(1, 4, 8, 3), 8)
	spec.Data = spec.Data[:len(spec.Data)/2]
	if s, err := e.Open(context.Background(), spec); err == nil {
		_ = s.Close()
		t.Error("half a model file was opened")
	}
}

// divisionOverflow divides the least integer by -1, which ends a process on
// some processors.
func divisionOverflow(t *testing.T, e engine.Engine) {
	for op, want := range map[string]int64{"Div": math.MinInt64, "Mod": 0} {
		data := onnxtest.Model{Graph: onnxtest.Graph{
			Nodes:   []onnxtest.Node{{Op: op, In: []string{"a", "b"}, Out: []string{"c"}}},
			Inputs:  []onnxtest.Value{{Name: "a", Type: tensor.Int64, Shape: "batch,3"}, {Name: "b", Type: tensor.Int64, Shape: "batch,3"}},
			Outputs: []onnxtest.Value{{Name: "c", Type: tensor.Int64, Shape: "batch,3"}},
		}}.Encode()
		s := Open(t, e, op, data, 8)
		p := part(1, integers(math.MinInt64, 7, math.MinInt64), integers(-1, 7, 2))
		if err := s.Run(context.Background(), []*engine.Part{p}); err != nil {
			t.Logf("%s is refused: %v", op, err) // as good as wrapped
			continue
		}
		got := p.Outputs[0].Data
		if first := int64(binary.LittleEndian.Uint64(got)); first != want {
			t.Errorf("%s of the least integer and -1 is %d, want %d", op, first, want)
		}
		if second, sound := int64(binary.LittleEndian.Uint64(got[8:])), map[string]int64{"Div": 1, "Mod": 0}[op]; second != sound {
			t.Errorf("%s of 7 and 7 beside it is %d, want %d", op, second, sound)
		}
	}
}

func integers(values ...int64) tensor.Tensor {
	t := tensor.Tensor{Datatype: tensor.Int64, Shape: tensor.Shape{1, int64(len(values))}}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(v))
	}
	return t
}

// hugeOutput asks for outputs far larger than the input, as often as it takes
// to see whether a refusal spoils the session.
func hugeOutput(t *testing.T, e engine.Engine) {
	data := onnxtest.Model{Graph: onnxtest.Graph{
		Nodes: []onnxtest.Node{
			{Op: "Unsqueeze", In: []string{"x", "first"}, Out: []string{"row"}},
			{Op: "Unsqueeze", In: []string{"x", "last"}, Out: []string{"column"}},
			{Op: "Mul", In: []string{"row", "column"}, Out: []string{"y"}},
		},
		Initializers: []onnxtest.Tensor{onnxtest.Int64s("first", 1), onnxtest.Int64s("last", 2)},
		Inputs:       []onnxtest.Value{{Name: "x", Type: tensor.FP32, Shape: "batch,s"}},
		Outputs:      []onnxtest.Value{{Name: "y", Type: tensor.FP32, Shape: "batch,s,s"}},
	}}.Encode()
	s := Open(t, e, "outer", data, 8)
	run := func(n int) error {
		p := part(1, tensor.Tensor{Datatype: tensor.FP32, Shape: tensor.Shape{1, int64(n)}, Data: make([]byte, 4*n)})
		err := s.Run(context.Background(), []*engine.Part{p})
		if err == nil && !p.Outputs[0].Shape.Equal(tensor.Shape{1, int64(n), int64(n)}) {
			t.Errorf("%d values gave shape %s", n, p.Outputs[0].Shape)
		}
		p.Reset()
		return err
	}
	for range 3 {
		if err := run(1 << 20); !fault.Is(err, fault.TooLarge) {
			t.Errorf("an output of 4 TiB gave %v", err)
		}
		for _, n := range []int{4, 100, 5000} { // the last one takes 100 MB
			if err := run(n); err != nil {
				t.Error(err)
			}
		}
	}
}

// stringsOfOthers sends fewer strings than the shape says: what another client
// left in the runtime's memory must not fill the gap.
func stringsOfOthers(t *testing.T, e engine.Engine) {
	s := Open(t, e, "identity", onnxtest.Identity(tensor.Bytes), 8)
	full := tensor.AppendBytes(tensor.AppendBytes(nil, "secret"), "secret")
	in := func(data []byte) *engine.Part {
		return part(1, tensor.Tensor{Datatype: tensor.Bytes, Shape: tensor.Shape{1, 2}, Data: data})
	}
	if err := s.Run(context.Background(), []*engine.Part{in(full)}); err != nil {
		t.Fatal(err)
	}
	p := in(tensor.AppendBytes(nil, "mine"))
	if err := s.Run(context.Background(), []*engine.Part{p}); err == nil {
		t.Errorf("one string filled a shape of two: %q", p.Outputs[0].Data)
	}
}
