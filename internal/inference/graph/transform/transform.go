// Package transform has the small steps between the models of a graph: pure
// functions from tensors to a tensor. Each says beforehand, from the types and
// shapes of what it takes, what it gives, so that a graph that cannot work is
// refused when it is loaded.
//
// Where a graph batches, the leading dimension of every tensor is its rows. No
// transform mixes rows there: axis 0 is refused.
package transform

import (
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Alloc returns n bytes for the data of a tensor that a transform makes. It fails
// where the request has had enough.
type Alloc func(n int) ([]byte, error)

// Op is a transform with its settings.
type Op interface {
	// Port returns datatype and shape of what the transform gives, -1 where an extent
	// is known only later. It fails with fault.Invalid where it cannot take these.
	Port(in []model.Port, batched bool) (model.Port, error)
	// Apply makes the tensor; its name is left to the caller. Its data may be that of
	// an input. rows is how many rows the request has, where the graph batches, else
	// -1. It fails with fault.Invalid where the data does not allow it.
	Apply(in []tensor.Tensor, rows int64, alloc Alloc) (tensor.Tensor, error)
}

// New returns the transform of a node.
func New(t *model.Transform) (Op, error) {
	switch t.Kind {
	case model.Rename:
		return rename{}, nil
	case model.Cast:
		return cast{t.Datatype}, nil
	case model.Slice:
		return slice{t.Axis, t.From, t.To}, nil
	case model.Concat:
		return concat{t.Axis}, nil
	case model.Softmax:
		return softmax{t.Axis}, nil
	case model.Argmax:
		return argmax{t.Axis}, nil
	case model.Threshold:
		return threshold{t.At}, nil
	case model.Constant:
		return newConstant(t)
	}
	return nil, fault.New(fault.Invalid, "unknown transform %q", t.Kind)
}

// single returns the only input.
func single[T any](in []T) (*T, error) {
	if len(in) != 1 {
		return nil, fault.New(fault.Invalid, "takes one tensor, got %d", len(in))
	}
	return &in[0], nil
}

// at returns the index of an axis, which counts from the end where it is negative.
func at(axis int, shape tensor.Shape, batched bool) (int, error) {
	i := axis
	if i < 0 {
		i += len(shape)
	}
	if i < 0 || i >= len(shape) {
		return 0, fault.New(fault.Invalid, "axis %d is none of shape %s", axis, shape)
	}
	if i == 0 && batched {
		return 0, fault.New(fault.Invalid, "axis %d of shape %s is the batch: its rows belong to different requests", axis, shape)
	}
	return i, nil
}

// blocks cuts a shape at an axis: the products of the extents before it and behind it.
func blocks(shape tensor.Shape, axis int) (outer, extent, inner int) {
	outer, inner = 1, 1
	for _, d := range shape[:axis] {
		outer *= int(d)
	}
	for _, d := range shape[axis+1:] {
		inner *= int(d)
	}
	return outer, int(shape[axis]), inner
}

// rename gives what it takes.
type rename struct{}

func (rename) Port(in []model.Port, _ bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	return *p, nil
}

func (rename) Apply(in []tensor.Tensor, _ int64, _ Alloc) (tensor.Tensor, error) { return in[0], nil }
