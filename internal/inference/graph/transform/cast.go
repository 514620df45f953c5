package transform

import (
	"math"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// cast changes the datatype. Numbers keep their value where the type has it:
// floating-point numbers are rounded to the nearest, cut towards zero where they
// become integers, and refused where an integer type does not reach that far. What
// is not zero is true.
type cast struct{ to tensor.Datatype }

func (c cast) Port(in []model.Port, _ bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	if p.Datatype != c.to && (kindOf(p.Datatype) == text || kindOf(c.to) == text) {
		return model.Port{}, fault.New(fault.Invalid, "cannot make %s of %s", c.to, p.Datatype)
	}
	out := *p
	out.Datatype = c.to
	return out, nil
}

func (c cast) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	if t.Datatype == c.to {
		return t, nil
	}
	n := len(t.Data) / t.Datatype.Size()
	data, err := alloc(n * c.to.Size())
	if err != nil {
		return t, err
	}
	for i := range n {
		if err := c.element(t.Datatype, t.Data, data, i); err != nil {
			return t, err
		}
	}
	t.Datatype, t.Data = c.to, data
	return t, nil
}

func (c cast) element(from tensor.Datatype, src, dst []byte, i int) error {
	switch kindOf(c.to) {
	case fraction:
		putFloat(c.to, dst, i, Float(from, src, i))
	case truth:
		dst[i] = 0
		if Float(from, src, i) != 0 {
			dst[i] = 1
		}
	default:
		w, ok := toWhole(from, src, i)
		if !ok || !w.fits(c.to) {
			return fault.New(fault.Invalid, "element %d, %v, is beyond %s", i, Float(from, src, i), c.to)
		}
		putWhole(c.to, dst, i, w)
	}
	return nil
}

// toWhole returns an element cut towards zero, and whether it is one of any type.
func toWhole(d tensor.Datatype, data []byte, i int) (whole, bool) {
	if kindOf(d) != fraction {
		return wholeAt(d, data, i), true
	}
	v := math.Trunc(Float(d, data, i))
	if a := math.Abs(v); a < 0x1p64 { // NaN is not
		return whole{v < 0, uint64(a)}, true
	}
	return whole{}, false
}
