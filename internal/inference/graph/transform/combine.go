package transform

import (
	"bytes"
	"context"
	"slices"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Combine makes one answer of the answers of several models, which have one
// datatype and one shape: Mean of floating-point numbers, or Vote, the value that
// most give, the first model's of those that are level. weights are those of the
// models. It ends soon where ctx does.
func Combine(ctx context.Context, how string, in []tensor.Tensor, weights []float64, alloc Alloc) (tensor.Tensor, error) {
	out := in[0]
	for i := range in[1:] {
		if !in[1+i].Shape.Equal(out.Shape) {
			return out, fault.New(fault.Invalid, "members answer with different shapes: %s and %s", out.Shape, in[1+i].Shape)
		}
	}
	var err error
	if how == model.Mean {
		out.Data, err = mean(ctx, in, weights, alloc)
	} else {
		out.Data, err = vote(ctx, in, weights, alloc)
	}
	return out, err
}

// Combinable returns an error where answers of a datatype cannot be combined so.
func Combinable(how string, d tensor.Datatype) error {
	switch k := kindOf(d); {
	case how == model.Mean && k != fraction:
		return fault.New(fault.Invalid, "the mean is one of floating-point numbers, got %s: cast them, or have them vote", d)
	case how == model.Vote && k == fraction:
		return fault.New(fault.Invalid, "a vote is one of classes, got %s: take the argmax first, or the mean", d)
	}
	return nil
}

func mean(ctx context.Context, in []tensor.Tensor, weights []float64, alloc Alloc) ([]byte, error) {
	data, err := alloc(len(in[0].Data))
	if err != nil {
		return nil, err
	}
	total := 0.0
	for _, w := range weights {
		total += w
	}
	d := in[0].Datatype
	for i := range len(data) / d.Size() {
		if err := look(ctx, i); err != nil {
			return nil, err
		}
		sum := 0.0
		for m := range in {
			sum += weights[m] / total * Float(d, in[m].Data, i)
		}
		putFloat(d, data, i, sum)
	}
	return data, nil
}

// look returns the error of a context now and then, as elements go by.
func look(ctx context.Context, element int) error {
	if element%4096 > 0 || ctx.Err() == nil {
		return nil
	}
	return fault.Of(ctx.Err())
}

// choice is a value that members give, with the weights of those who do.
type choice struct {
	value   []byte
	support float64
}

func vote(ctx context.Context, in []tensor.Tensor, weights []float64, alloc Alloc) ([]byte, error) {
	all := make([]pieces, len(in))
	for m := range in {
		all[m] = cut(&in[m])
	}
	n, err := in[0].Shape.Elements()
	if err != nil {
		return nil, err
	}
	chosen := make([][]byte, n)
	var choices []choice
	for i := range chosen {
		if err := look(ctx, i); err != nil {
			return nil, err
		}
		choices = choices[:0]
		for m := range in {
			mine := all[m].between(i, i+1)
			at := slices.IndexFunc(choices, func(c choice) bool { return bytes.Equal(c.value, mine) })
			if at < 0 {
				at, choices = len(choices), append(choices, choice{value: mine})
			}
			choices[at].support += weights[m]
		}
		best := choices[0]
		for _, c := range choices[1:] {
			if c.support > best.support {
				best = c
			}
		}
		chosen[i] = best.value
	}
	return join(chosen, alloc)
}
