package probe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// CodeGolden is the code of the error where a golden run is not answered as it
// says, or cannot be run.
const CodeGolden = "golden_mismatch"

// Golden is a run whose answer is known: by it a model is told from a damaged, or
// wrongly exported, one.
type Golden struct {
	Inputs  []tensor.Tensor // every input of the model, in any order
	Outputs []tensor.Tensor // the outputs to compare, in any order
}

// Run has the session answer the golden run, and compares. Floating-point values
// may differ as much as another order of summation explains.
func (g *Golden) Run(ctx context.Context, s engine.Session, spec engine.Spec) error {
	part, err := g.part(spec)
	if err != nil {
		return err
	}
	if err := s.Run(ctx, []*engine.Part{part}); err != nil {
		return fault.Wrap(fault.Invalid, err, "model %q does not run on the golden inputs: %s", spec.Name, fault.Of(err).Message).WithCode(CodeGolden)
	}
	defer part.Reset()
	for i := range g.Outputs {
		want := &g.Outputs[i]
		at := slices.IndexFunc(part.Outputs, func(t tensor.Tensor) bool { return t.Name == want.Name })
		if at < 0 {
			return badGolden("the model has no output %q, which the golden run expects", want.Name)
		}
		if diff := unlike(want, &part.Outputs[at]); diff != "" {
			return badGolden("output %q of the golden run: %s", want.Name, diff)
		}
	}
	return nil
}

// part makes the run's inputs, in the signature's order.
func (g *Golden) part(spec engine.Spec) (*engine.Part, error) {
	part := &engine.Part{Rows: 1}
	if len(g.Inputs) != len(spec.Signature.Inputs) {
		return nil, badGolden("the golden run has %d inputs, and the model %d", len(g.Inputs), len(spec.Signature.Inputs))
	}
	for n, port := range spec.Signature.Inputs {
		at := slices.IndexFunc(g.Inputs, func(t tensor.Tensor) bool { return t.Name == port.Name })
		if at < 0 {
			return nil, badGolden("the golden run has no input %q, which the model takes", port.Name)
		}
		in := g.Inputs[at]
		if err := in.Validate(); err != nil {
			return nil, badGolden("golden input %q: %s", port.Name, fault.Of(err).Message)
		}
		if in.Datatype != port.Datatype || !fits(in.Shape, port.Shape) {
			return nil, badGolden("golden input %q is %s %s, and the model takes %s %s", port.Name, in.Datatype, in.Shape, port.Datatype, port.Shape)
		}
		if rows := int(in.Rows()); spec.Batches {
			if rows < 1 || rows > spec.MaxRows || n > 0 && rows != part.Rows {
				return nil, badGolden("golden input %q has %d rows, expected as many as the others, and 1 to %d", port.Name, rows, spec.MaxRows)
			}
			part.Rows = rows
		}
		part.Inputs = append(part.Inputs, in)
	}
	return part, nil
}

func fits(got, declared tensor.Shape) bool {
	if len(got) != len(declared) {
		return false
	}
	for d := range declared {
		if declared[d] >= 0 && got[d] != declared[d] {
			return false
		}
	}
	return true
}

// unlike says how an output differs from what was expected, or "".
func unlike(want, got *tensor.Tensor) string {
	if want.Datatype != got.Datatype || !want.Shape.Equal(got.Shape) || len(want.Data) != len(got.Data) && want.Datatype != tensor.Bytes {
		return fmt.Sprintf("it is %s %s, expected %s %s", got.Datatype, got.Shape, want.Datatype, want.Shape)
	}
	absolute, relative, read := tolerance(want.Datatype)
	if read == nil {
		if string(want.Data) != string(got.Data) {
			return "it has other values than expected"
		}
		return ""
	}
	size := want.Datatype.Size()
	for at := 0; at < len(want.Data); at += size {
		x, y := read(want.Data[at:]), read(got.Data[at:])
		if x == y || math.IsNaN(x) && math.IsNaN(y) || !math.IsInf(x, 0) && math.Abs(x-y) <= absolute+relative*math.Abs(x) {
			continue
		}
		return fmt.Sprintf("value %d is %g, expected %g", at/size, y, x)
	}
	return ""
}

func badGolden(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(CodeGolden)
}
