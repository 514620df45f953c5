package ortengine

import (
	"slices"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// dimSource says where an output's extent comes from.
type dimSource struct {
	fixed int64 // >= 0: this extent
	input int   // else: the extent of this input's
	dim   int   // dimension; input -1: not known before the run
}

// shapeResolver computes output shapes from input shapes, through the symbols
// that the model gives its varying extents. Knowing them before the run lets
// outputs be written straight into memory that is kept.
type shapeResolver struct {
	outputs [][]dimSource
	echoes  []int // of each output the input that it is itself, or -1
}

func newShapeResolver(sig *model.Signature) *shapeResolver {
	type at struct{ input, dim int }
	symbols := map[string]at{}
	for i, p := range sig.Inputs {
		for d, s := range p.Symbols {
			if _, seen := symbols[s]; s != "" && !seen {
				symbols[s] = at{i, d}
			}
		}
	}
	r := &shapeResolver{outputs: make([][]dimSource, len(sig.Outputs)), echoes: make([]int, len(sig.Outputs))}
	for o, p := range sig.Outputs {
		i := slices.IndexFunc(sig.Inputs, func(in model.Port) bool { return in.Name == p.Name })
		if r.echoes[o] = i; i >= 0 {
			for d := range sig.Inputs[i].Shape {
				r.outputs[o] = append(r.outputs[o], dimSource{fixed: -1, input: i, dim: d})
			}
			continue
		}
		for d, extent := range p.Shape {
			src := dimSource{fixed: extent, input: -1}
			if extent < 0 && d < len(p.Symbols) {
				if from, ok := symbols[p.Symbols[d]]; ok {
					src.input, src.dim = from.input, from.dim
				}
			}
			r.outputs[o] = append(r.outputs[o], src)
		}
	}
	return r
}

// useBatch makes the leading extent of every output the rows of the run, for
// models that batch without naming their leading dimension.
func (r *shapeResolver) useBatch() {
	for _, dims := range r.outputs {
		if len(dims) > 0 && dims[0].fixed < 0 {
			dims[0].input, dims[0].dim = 0, 0
		}
	}
}

// resolvable reports whether output o's shape follows from the inputs.
func (r *shapeResolver) resolvable(o int) bool {
	for _, src := range r.outputs[o] {
		if src.fixed < 0 && src.input < 0 {
			return false
		}
	}
	return len(r.outputs[o]) > 0
}

// forget makes output o unresolvable, where the model was seen to break its
// own declaration.
func (r *shapeResolver) forget(o int) { r.outputs[o] = nil }

// appendShape appends output o's shape for the given input shapes to dst.
func (r *shapeResolver) appendShape(dst tensor.Shape, o int, inputs []tensor.Shape) tensor.Shape {
	for _, src := range r.outputs[o] {
		if src.fixed >= 0 {
			dst = append(dst, src.fixed)
		} else {
			dst = append(dst, inputs[src.input][src.dim])
		}
	}
	return dst
}
