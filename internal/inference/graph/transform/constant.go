package transform

import (
	"math"
	"math/big"
	"strconv"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// constant gives the same numbers for every row.
type constant struct {
	datatype tensor.Datatype
	shape    tensor.Shape // without the batch
	data     []byte       // of one row
}

// maxConstantBytes is how much data a constant may have for a row; its elements are
// bounded by model.MaxConstant.
const maxConstantBytes = 1 << 20

func newConstant(t *model.Transform) (Op, error) {
	n, err := t.Dims.Elements()
	if err != nil {
		return nil, err
	}
	if n != int64(len(t.Values)) && (len(t.Values) != 1 || n > model.MaxConstant) {
		return nil, fault.New(fault.Invalid, "shape %s needs %d values, or one for all, got %d", t.Dims, n, len(t.Values))
	}
	if t.Datatype == tensor.Bytes && len(t.Values) == 1 && n*int64(4+len(t.Values[0])) > maxConstantBytes {
		return nil, fault.New(fault.Invalid, "%d texts of %d bytes are more than the %d bytes that a constant may have", n, len(t.Values[0]), maxConstantBytes)
	}
	c := constant{datatype: t.Datatype, shape: t.Dims}
	for i := range n {
		if c.data, err = AppendValue(c.data, t.Datatype, t.Values[min(int(i), len(t.Values)-1)]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// AppendValue appends an element as it is written in a configuration. It fails with
// fault.Invalid where the text is none of the datatype.
func AppendValue(data []byte, d tensor.Datatype, text string) ([]byte, error) {
	wrong := fault.New(fault.Invalid, "value %.40q is not one of %s", text, d)
	if d == tensor.Bytes {
		return tensor.AppendBytes(data, text), nil
	}
	at := len(data)
	data = append(data, make([]byte, d.Size())...)
	switch kindOf(d) {
	case truth:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, wrong
		}
		if v {
			data[at] = 1
		}
	case fraction:
		v, err := strconv.ParseFloat(text, 64)
		if putFloat(d, data[at:], 0, v); err != nil || math.IsInf(Float(d, data[at:], 0), 0) != math.IsInf(v, 0) {
			return nil, wrong
		}
	default:
		v, ok := new(big.Int).SetString(text, 10)
		if !ok || v.BitLen() > 64 {
			return nil, wrong
		}
		w := whole{v.Sign() < 0, new(big.Int).Abs(v).Uint64()}
		if !w.fits(d) {
			return nil, wrong
		}
		putWhole(d, data[at:], 0, w)
	}
	return data, nil
}

func (c constant) Port(in []model.Port, batched bool) (model.Port, error) {
	if len(in) > 0 {
		return model.Port{}, fault.New(fault.Invalid, "takes no tensor, got %d", len(in))
	}
	shape := append(tensor.Shape{}, c.shape...)
	if batched {
		shape = append(tensor.Shape{-1}, shape...)
	}
	return model.Port{Datatype: c.datatype, Shape: shape}, nil
}

func (c constant) Apply(_ []tensor.Tensor, rows int64, alloc Alloc) (tensor.Tensor, error) {
	if rows < 0 {
		return tensor.Tensor{Datatype: c.datatype, Shape: c.shape, Data: c.data}, nil
	}
	data, err := alloc(int(rows) * len(c.data))
	for i := 0; err == nil && i < int(rows); i++ {
		copy(data[i*len(c.data):], c.data)
	}
	return tensor.Tensor{Datatype: c.datatype, Shape: append(tensor.Shape{rows}, c.shape...), Data: data}, err
}
