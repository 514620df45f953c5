package enginetest

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/onnx/onnxtest"
	"sluice/internal/inference/tensor"
)

// echoes runs a model whose outputs are its inputs, under the same names and
// without a node between them: what comes back is what that part has sent,
// and nothing that lay in memory before.
func echoes(t *testing.T, e engine.Engine) {
	types := onnxtest.Datatypes()
	s := Open(t, e, "echo", onnxtest.Echo(types...), 8)
	rapid.Check(t, func(t *rapid.T) {
		var parts []*engine.Part
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			p := part(rapid.IntRange(1, 2).Draw(t, "rows"))
			for _, d := range types {
				in := tensor.Tensor{Datatype: d, Shape: tensor.Shape{int64(p.Rows), 3}}
				for range p.Rows * 3 {
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
			p.Reset()
		}
	})
}
