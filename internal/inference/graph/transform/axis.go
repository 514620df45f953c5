package transform

import (
	"math"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// softmax makes shares of scores along an axis: each above zero, together one.
type softmax struct{ axis int }

func (s softmax) Port(in []model.Port, batched bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	if kindOf(p.Datatype) != fraction {
		return model.Port{}, fault.New(fault.Invalid, "takes floating-point numbers, got %s", p.Datatype)
	}
	_, err = at(s.axis, p.Shape, batched)
	return *p, err
}

func (s softmax) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	axis, err := at(s.axis, t.Shape, false)
	if err != nil {
		return t, err
	}
	data, err := alloc(len(t.Data))
	if err != nil {
		return t, err
	}
	outer, extent, inner := blocks(t.Shape, axis)
	if extent == 0 {
		outer = 0
	}
	for o := range outer {
		for i := range inner {
			shares(t.Datatype, t.Data, data, o*extent*inner+i, extent, inner)
		}
	}
	t.Data = data
	return t, nil
}

// shares is the softmax of n elements from first on, each step apart. The greatest
// is taken off first, so that no exponential overflows.
func shares(d tensor.Datatype, src, dst []byte, first, n, step int) {
	most, sum := math.Inf(-1), 0.0
	for k := range n {
		most = math.Max(most, Float(d, src, first+k*step))
	}
	for k := range n {
		sum += math.Exp(Float(d, src, first+k*step) - most)
	}
	for k := range n {
		putFloat(d, dst, first+k*step, math.Exp(Float(d, src, first+k*step)-most)/sum)
	}
}

// argmax gives the index of the greatest along an axis, which it takes away: of the
// first where several are, and of the first NaN where there is one.
type argmax struct{ axis int }

func (a argmax) Port(in []model.Port, batched bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	if kindOf(p.Datatype) == text {
		return model.Port{}, fault.New(fault.Invalid, "takes numbers, got %s", p.Datatype)
	}
	axis, err := at(a.axis, p.Shape, batched)
	if err != nil {
		return model.Port{}, err
	}
	return model.Port{Name: p.Name, Datatype: tensor.Int64, Shape: without(p.Shape, axis), Labels: p.Labels}, nil
}

func without(shape tensor.Shape, axis int) tensor.Shape {
	return append(append(tensor.Shape{}, shape[:axis]...), shape[axis+1:]...)
}

func (a argmax) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	axis, err := at(a.axis, t.Shape, false)
	if err != nil {
		return t, err
	}
	outer, extent, inner := blocks(t.Shape, axis)
	if extent == 0 && outer*inner > 0 {
		return t, fault.New(fault.Invalid, "axis %d of shape %s is empty: it has no greatest", a.axis, t.Shape)
	}
	data, err := alloc(8 * outer * inner)
	if err != nil {
		return t, err
	}
	for o := range outer {
		for i := range inner {
			best := greatest(t.Datatype, t.Data, o*extent*inner+i, extent, inner)
			putWhole(tensor.Int64, data, o*inner+i, whole{magnitude: uint64(best)})
		}
	}
	return tensor.Tensor{Datatype: tensor.Int64, Shape: without(t.Shape, axis), Data: data}, nil
}

func greatest(d tensor.Datatype, data []byte, first, n, step int) int {
	best := 0
	if kindOf(d) != fraction {
		for k := 1; k < n; k++ {
			if wholeAt(d, data, first+best*step).less(wholeAt(d, data, first+k*step)) {
				best = k
			}
		}
		return best
	}
	most := Float(d, data, first)
	for k := 1; k < n && !math.IsNaN(most); k++ {
		if v := Float(d, data, first+k*step); v > most || math.IsNaN(v) {
			best, most = k, v
		}
	}
	return best
}

// threshold is true where a number is at least so much; NaN never is. Integers
// beyond 2^53 are compared by the nearest FP64.
type threshold struct{ at float64 }

func (threshold) Port(in []model.Port, _ bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	if k := kindOf(p.Datatype); k != fraction && k != integer {
		return model.Port{}, fault.New(fault.Invalid, "takes numbers, got %s", p.Datatype)
	}
	return model.Port{Name: p.Name, Datatype: tensor.Bool, Shape: p.Shape, Labels: p.Labels}, nil
}

func (h threshold) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	data, err := alloc(len(t.Data) / t.Datatype.Size())
	if err != nil {
		return t, err
	}
	for i := range data {
		data[i] = 0
		if Float(t.Datatype, t.Data, i) >= h.at {
			data[i] = 1
		}
	}
	t.Datatype, t.Data = tensor.Bool, data
	return t, nil
}
