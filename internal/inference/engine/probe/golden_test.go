package probe_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/enginetest"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// A golden run passes where the model answers so, and says what differs where not.
func TestGoldenRun(t *testing.T) {
	spec := enginetest.Spec(t, "mlp", onnxtest.MLP(1, 4, 3), 8)
	in := enginetest.Floats(spec.Signature.Inputs[0].Name, 2, 0.5)
	box := sandbox(t, "real")
	answer := func(change func(*probe.Golden)) error {
		g := &probe.Golden{Inputs: []tensor.Tensor{in}, Outputs: []tensor.Tensor{run(t, spec, in)}}
		change(g)
		_, err := box.TryGolden(t.Context(), spec, g)
		return err
	}
	if err := answer(func(*probe.Golden) {}); err != nil {
		t.Errorf("the model's own answer: %v", err)
	}
	for want, change := range map[string]func(*probe.Golden){
		"value 1 is": func(g *probe.Golden) {
			binary.LittleEndian.PutUint32(g.Outputs[0].Data[4:], math.Float32bits(42))
		},
		"has no output": func(g *probe.Golden) { g.Outputs[0].Name = "nobody" },
		"has no input":  func(g *probe.Golden) { g.Inputs[0].Name = "nobody" },
		"has 0 inputs":  func(g *probe.Golden) { g.Inputs = nil },
		"model takes":   func(g *probe.Golden) { g.Inputs[0].Shape = tensor.Shape{4, 2} },
		"golden input":  func(g *probe.Golden) { g.Inputs[0].Data = g.Inputs[0].Data[1:] },
		"expected FP32": func(g *probe.Golden) { g.Outputs[0].Shape = tensor.Shape{1, 6} },
		"expected as many": func(g *probe.Golden) {
			g.Inputs[0] = enginetest.Floats(in.Name, 9, 0)
		},
	} {
		err := answer(change)
		if fault.CodeOf(err) != probe.CodeGolden || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// run returns what the model answers, as its first output.
func run(t *testing.T, spec engine.Spec, in tensor.Tensor) tensor.Tensor {
	t.Helper()
	e, err := ortengine.Open(library(t))
	if err != nil {
		t.Fatal(err)
	}
	s := enginetest.Open(t, e, spec.Name, spec.Data, spec.MaxRows)
	part := &engine.Part{Rows: int(in.Rows()), Inputs: []tensor.Tensor{in}}
	if err := s.Run(t.Context(), []*engine.Part{part}); err != nil {
		t.Fatal(err)
	}
	out := part.Outputs[0]
	out.Shape, out.Data = append(tensor.Shape{}, out.Shape...), append([]byte{}, out.Data...)
	part.Reset()
	return out
}
