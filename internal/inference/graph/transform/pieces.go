package transform

import (
	"encoding/binary"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// pieces finds elements of a tensor in its data.
type pieces struct {
	data []byte
	size int   // of each element; 0 where they vary
	ends []int // of BYTES: where each element ends
}

func cut(t *tensor.Tensor) pieces {
	p := pieces{data: t.Data, size: t.Datatype.Size()}
	for at := 0; p.size == 0 && at < len(t.Data); {
		at += 4 + int(binary.LittleEndian.Uint32(t.Data[at:]))
		p.ends = append(p.ends, at)
	}
	return p
}

// offset is where element i begins; that of the number of elements is the end.
func (p pieces) offset(i int) int {
	switch {
	case p.size > 0:
		return i * p.size
	case i == 0:
		return 0
	}
	return p.ends[i-1]
}

// between returns the data of the elements from..to-1.
func (p pieces) between(from, to int) []byte { return p.data[p.offset(from):p.offset(to)] }

// join returns one block of all parts.
func join(parts [][]byte, alloc Alloc) ([]byte, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	data, err := alloc(size)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, p := range parts {
		n += copy(data[n:], p)
	}
	return data, nil
}

// slice takes the positions from..to-1 of an axis; without a to, all to the end.
type slice struct {
	axis, from int
	to         *int
}

func (s slice) Port(in []model.Port, batched bool) (model.Port, error) {
	p, err := single(in)
	if err != nil {
		return model.Port{}, err
	}
	axis, err := at(s.axis, p.Shape, batched)
	if err != nil {
		return model.Port{}, err
	}
	shape, err := s.shape(p.Shape, axis)
	return model.Port{Name: p.Name, Datatype: p.Datatype, Shape: shape}, err
}

func (s slice) shape(shape tensor.Shape, axis int) (tensor.Shape, error) {
	extent := shape[axis]
	out := append(tensor.Shape{}, shape...)
	switch {
	case s.to != nil && (extent < 0 || int64(*s.to) <= extent):
		out[axis] = int64(*s.to - s.from)
	case s.to == nil && extent < 0:
	case s.to == nil && int64(s.from) <= extent:
		out[axis] = extent - int64(s.from)
	default:
		return nil, fault.New(fault.Invalid, "positions %d to %d are not all on axis %d of shape %s", s.from, s.end(extent), axis, shape)
	}
	return out, nil
}

func (s slice) end(extent int64) int {
	if s.to != nil {
		return *s.to
	}
	return int(extent)
}

func (s slice) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	axis, err := at(s.axis, t.Shape, false)
	if err != nil {
		return t, err
	}
	shape, err := s.shape(t.Shape, axis)
	if err != nil {
		return t, err
	}
	outer, extent, inner := blocks(t.Shape, axis)
	if outer*inner == 0 {
		outer = 0
	}
	from, to, all := s.from, s.end(t.Shape[axis]), cut(&t)
	parts := make([][]byte, 0, outer)
	for o := range outer {
		parts = append(parts, all.between((o*extent+from)*inner, (o*extent+to)*inner))
	}
	t.Shape = shape
	t.Data, err = join(parts, alloc)
	return t, err
}

// concat puts tensors behind each other along an axis; their other extents agree.
type concat struct{ axis int }

func (c concat) Port(in []model.Port, batched bool) (model.Port, error) {
	if len(in) < 2 {
		return model.Port{}, fault.New(fault.Invalid, "takes two tensors at least, got %d", len(in))
	}
	axis, err := at(c.axis, in[0].Shape, batched)
	if err != nil {
		return model.Port{}, err
	}
	out := model.Port{Name: in[0].Name, Datatype: in[0].Datatype, Shape: append(tensor.Shape{}, in[0].Shape...)}
	for _, p := range in[1:] {
		if p.Datatype != out.Datatype {
			return model.Port{}, fault.New(fault.Invalid, "cannot put %s behind %s: cast one of them", p.Datatype, out.Datatype)
		}
		if err := extend(out.Shape, p.Shape, axis); err != nil {
			return model.Port{}, err
		}
	}
	return out, nil
}

// extend adds the extent of an axis to a shape; the others must agree, as far as
// they are known.
func extend(shape, more tensor.Shape, axis int) error {
	agree := len(shape) == len(more)
	for d := 0; agree && d < len(shape); d++ {
		switch {
		case d == axis:
		case shape[d] < 0:
			shape[d] = more[d]
		default:
			agree = more[d] < 0 || more[d] == shape[d]
		}
	}
	if !agree {
		return fault.New(fault.Invalid, "shapes %s and %s differ elsewhere than on axis %d", shape, more, axis)
	}
	if shape[axis] < 0 || more[axis] < 0 {
		shape[axis] = -1
	} else {
		shape[axis] += more[axis]
	}
	return nil
}

func (c concat) Apply(in []tensor.Tensor, _ int64, alloc Alloc) (tensor.Tensor, error) {
	t := in[0]
	axis, err := at(c.axis, t.Shape, false)
	if err != nil {
		return t, err
	}
	shape := append(tensor.Shape{}, t.Shape...)
	all := make([]pieces, len(in))
	for i := range in {
		if all[i] = cut(&in[i]); i == 0 {
			continue
		}
		if err := extend(shape, in[i].Shape, axis); err != nil {
			return t, err
		}
	}
	outer, _, inner := blocks(shape, axis)
	if outer*inner == 0 {
		outer = 0
	}
	parts := make([][]byte, 0, outer*len(in))
	for o := range outer {
		for i := range in {
			run := int(in[i].Shape[axis]) * inner
			parts = append(parts, all[i].between(o*run, (o+1)*run))
		}
	}
	t.Shape = shape
	t.Data, err = join(parts, alloc)
	return t, err
}

// Rows returns the rows of a tensor that are listed, in that order.
func Rows(t *tensor.Tensor, rows []int, alloc Alloc) (tensor.Tensor, error) {
	out := *t
	_, _, inner := blocks(t.Shape, 0)
	all := cut(t)
	parts := make([][]byte, len(rows))
	for i, row := range rows {
		if inner > 0 {
			parts[i] = all.between(row*inner, (row+1)*inner)
		}
	}
	out.Shape = append(tensor.Shape{int64(len(rows))}, t.Shape[1:]...)
	var err error
	out.Data, err = join(parts, alloc)
	return out, err
}

// Stack puts the rows of tensors behind each other.
func Stack(in []tensor.Tensor, alloc Alloc) (tensor.Tensor, error) {
	return concat{0}.Apply(in, -1, alloc)
}
