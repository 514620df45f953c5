package onnx

import (
	"math"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// maxKept is the most values of a constant that are kept for the size checks:
// the pads of a tensor of tensor.MaxDims dimensions.
const maxKept = 2 * tensor.MaxDims

// constant is a value known from the file.
type constant struct {
	elements int64
	values   []float64 // nil if not numeric, or more than maxKept
}

// contents is a TensorProto while it is being checked.
type contents struct {
	name     []byte // a view
	dims     tensor.Shape
	extents  [tensor.MaxDims]int64 // backs dims
	element  *elementType
	elements int64
	raw      []byte
	stored   int   // field number that holds the data; 0 if none
	count    int64 // values in it; bytes for raw_data
}

// readTensor checks a TensorProto: no external data, and exactly as much data
// of its own as its dimensions and type call for.
func readTensor(b []byte, limits *Limits) (*contents, error) {
	t := &contents{name: stringField(b, tensorName)}
	t.dims = t.extents[:0]
	code := uint64(0)
	for f := read(b); f.next(); {
		var err error
		switch f.num {
		case tensorDims:
			err = appendDims(&t.dims, f.value, limits)
		case tensorType:
			code = f.u
		case tensorExternal:
			err = fault.New(fault.Unsupported, "its data is in another file (external_data): save the model as one file")
		case tensorLocation:
			if f.u != 0 {
				err = fault.New(fault.Unsupported, "its data is in another file (data_location %d): save the model as one file", f.u)
			}
		case tensorFloats, tensorInt32s, tensorInt64s, tensorDoubles, tensorUint64s, tensorStrings, tensorRaw:
			err = t.store(f.value)
		}
		if err != nil {
			return t, err
		}
	}
	var err error
	if t.element, err = elementTypeOf(code); err != nil {
		return t, err
	}
	if t.elements, err = t.dims.Elements(); err != nil {
		return t, err
	}
	return t, t.complete()
}

// appendDims appends the extents in f, which may be packed, to shape.
func appendDims(shape *tensor.Shape, f value, limits *Limits) error {
	for u := range f.numbers(varint) {
		if len(*shape) == min(limits.MaxDims, tensor.MaxDims) {
			return fault.New(fault.TooLarge, "has more than %d dimensions", limits.MaxDims)
		}
		if *shape = append(*shape, int64(u)); int64(u) < 0 {
			return fault.New(fault.Invalid, "has the negative dimension %d", int64(u))
		}
	}
	return nil
}

// store notes one occurrence of a field that holds data.
func (t *contents) store(f value) error {
	if t.stored != 0 && t.stored != f.num {
		return fault.New(fault.Invalid, "its data is given both as %s and as %s",
			messages[tensorMessage].fields[t.stored].label, messages[tensorMessage].fields[f.num].label)
	}
	t.stored = f.num
	switch f.num {
	case tensorRaw:
		t.raw, t.count = f.b, int64(len(f.b))
	case tensorStrings:
		t.count++
	default:
		t.count += f.count(messages[tensorMessage].fields[f.num].kind)
	}
	return nil
}

// complete checks the amount of data.
func (t *contents) complete() error {
	want, unit := t.elements, "values"
	switch {
	case t.stored == 0 && t.elements == 0:
		return nil
	case t.stored == 0:
		return fault.New(fault.Invalid, "shape %s of %s needs data, but there is none", t.dims, t.element.label)
	case t.stored == tensorRaw && t.element.bits == 0:
		return fault.New(fault.Invalid, "strings must be in string_data, not raw_data")
	case t.stored == tensorRaw:
		bits := int64(t.element.bits)
		if t.elements > (math.MaxInt64-7)/bits {
			return fault.New(fault.Invalid, "shape %s of %s has more bytes than fit in 63 bits", t.dims, t.element.label)
		}
		want, unit = (t.elements*bits+7)/8, "bytes"
	case t.stored != t.element.field:
		return fault.New(fault.Invalid, "%s data must be in %s, not %s", t.element.label,
			messages[tensorMessage].fields[t.element.field].label, messages[tensorMessage].fields[t.stored].label)
	case t.element.bits > 0 && t.element.bits < 8: // several to a byte, a byte to a value
		per := int64(8 / t.element.bits)
		want = t.elements/per + min(t.elements%per, 1)
	}
	if t.count != want {
		return fault.New(fault.Invalid, "shape %s of %s needs %d %s of data, got %d", t.dims, t.element.label, want, unit, t.count)
	}
	return nil
}

// sparse checks a SparseTensorProto. The runtime makes it dense, so that its
// shape is held to MaxElements, and every index must lie inside of it.
func (in *inspector) sparse(b []byte) (*contents, error) {
	var values, indices []byte
	shape := make(tensor.Shape, 0, tensor.MaxDims)
	for f := read(b); f.next(); {
		switch f.num {
		case sparseValues:
			values = f.b
		case sparseIndices:
			indices = f.b
		case sparseDims:
			if err := appendDims(&shape, f.value, in.limits); err != nil {
				return &contents{}, err
			}
		}
	}
	v, err := readTensor(values, in.limits)
	if err != nil {
		return v, at(err, "values")
	}
	total, err := shape.Elements()
	switch {
	case err != nil:
		return v, err
	case total > in.limits.MaxElements:
		return v, fault.New(fault.TooLarge, "sparse shape %s has more than %d elements", shape, in.limits.MaxElements)
	case len(v.dims) != 1:
		return v, fault.New(fault.Invalid, "sparse values have shape %s; they must have one dimension", v.dims)
	case v.elements > total:
		return v, fault.New(fault.Invalid, "sparse shape %s has %d elements but %d values", shape, total, v.elements)
	case v.elements == 0:
		return v, nil
	}
	i, err := readTensor(indices, in.limits)
	if err != nil {
		return v, at(err, "indices")
	}
	linear := i.dims.Equal(tensor.Shape{v.elements})
	if i.element != &elementTypes[typeInt64] || !linear && !i.dims.Equal(tensor.Shape{v.elements, int64(len(shape))}) {
		return v, fault.New(fault.Invalid, "sparse indices are %s %s where %d values of shape %s need INT64 [%d] or [%d,%d]",
			i.element.label, i.dims, v.elements, shape, v.elements, v.elements, len(shape))
	}
	bounds := shape
	if linear {
		bounds = tensor.Shape{total}
	}
	n := 0
	for index := range numbers(indices, i.element) {
		if bound := bounds[n%len(bounds)]; index < 0 || index >= float64(bound) {
			return v, fault.New(fault.Invalid, "sparse index %.0f is outside of its dimension of %d", index, bound)
		}
		n++
	}
	return v, nil
}

// constant returns what the size checks need of a checked TensorProto.
func (t *contents) constant(b []byte) constant {
	c := constant{elements: t.elements}
	if t.elements > maxKept || !numeric(t.element) {
		return c
	}
	c.values = make([]float64, 0, t.elements)
	for v := range numbers(b, t.element) {
		c.values = append(c.values, v)
	}
	return c
}
