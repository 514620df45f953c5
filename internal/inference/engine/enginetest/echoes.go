package enginetest

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/onnx/onnxtest"
)

// echoes runs a model whose outputs are its inputs, under the same names and
// without a node between them: what comes back is what that part has sent,
// and nothing that lay in memory before.
func echoes(t *testing.T, e engine.Engine) {
	types := onnxtest.Datatypes()
	s := Open(t, e, "echo", onnxtest.Echo(types...), 8)
	rapid.Check(t, func(t *rapid.T) {
		for _, p := range comesBack(t, s, types, slices.Repeat([]int{3}, len(types))) {
			p.Reset()
		}
	})
}
