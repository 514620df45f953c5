// Package oip holds what the Open Inference Protocol's REST and gRPC edges
// share.
package oip

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"unsafe"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// elementRoom is what one "score:index" mostly takes, with its length before it.
const elementRoom = 24

// Classify turns scores into the k highest classes of each row: a BYTES tensor
// of shape [rows, min(k, classes)], or [min(k, classes)] where the model does
// not batch, whose elements are "score:index" or "score:index:label" with the
// port's labels, highest score first. Equal scores keep the order of their
// indices and NaN comes last. All dimensions beyond the batch count as one.
//
// The result's data lies in the slab, which the caller releases and which counts
// in the account. It follows the classification extension.
func Classify(account *budget.Account, scores *tensor.Tensor, port *model.Port, k int, batched bool) (tensor.Tensor, *tensor.Slab, error) {
	read := scoreReader(scores.Datatype)
	if read == nil {
		return tensor.Tensor{}, nil, fault.New(fault.Invalid,
			"output '%s' is %s: classification needs integer, FP32 or FP64 scores", scores.Name, scores.Datatype)
	}
	if k < 1 {
		return tensor.Tensor{}, nil, fault.New(fault.Invalid, "output '%s': classification of %d classes; expected at least 1", scores.Name, k)
	}
	rows, perRow := 1, scores.Shape
	if batched && len(scores.Shape) > 0 {
		rows, perRow = int(scores.Shape[0]), scores.Shape[1:]
	}
	width, err := perRow.Elements()
	if err != nil {
		return tensor.Tensor{}, nil, err
	}
	k = int(min(int64(k), width))
	out := tensor.Tensor{Name: scores.Name, Datatype: tensor.Bytes, Shape: tensor.Shape{int64(k)}}
	if batched {
		out.Shape = tensor.Shape{int64(rows), int64(k)}
	}
	if len(scores.Data) == 0 { // a shape without elements may have any number of rows or classes
		return out, nil, nil
	}
	classes := int(width)
	ranks, text := int64(classes)*int64(unsafe.Sizeof(ranking{})), rows*k*elementRoom
	if err := account.Acquire(ranks + int64(text)); err != nil {
		return out, nil, err
	}
	defer account.Return(ranks)
	slab := tensor.GetSlab(text)
	ranked := make([]ranking, classes)
	var element []byte
	for row := range rows {
		for i := range ranked {
			ranked[i] = read(scores.Data, row*classes+i)
			ranked[i].class = i
		}
		slices.SortFunc(ranked, ranking.compare)
		for _, r := range ranked[:k] {
			element = append(r.appendScore(element[:0]), ':')
			element = strconv.AppendInt(element, int64(r.class), 10)
			if r.class < len(port.Labels) {
				element = append(append(element, ':'), port.Labels[r.class]...)
			}
			slab.B = tensor.AppendBytes(slab.B, element)
		}
	}
	out.Data = slab.B
	return out, slab, nil
}

// ranking is one score; integers keep all their digits.
type ranking struct {
	class    int
	isFloat  bool
	float    float64
	negative bool
	bits     uint64 // of an integer, in two's complement where negative
}

// compare orders by descending score, then by ascending class.
func (r ranking) compare(o ranking) int {
	var byScore int
	switch {
	case r.isFloat:
		byScore = cmp.Compare(o.float, r.float) // NaN is the least
	case r.negative && !o.negative:
		byScore = 1
	case o.negative && !r.negative:
		byScore = -1
	default: // two's complement keeps the order within a sign
		byScore = cmp.Compare(o.bits, r.bits)
	}
	return cmp.Or(byScore, cmp.Compare(r.class, o.class))
}

func (r ranking) appendScore(b []byte) []byte {
	switch {
	case r.isFloat:
		return strconv.AppendFloat(b, r.float, 'f', 6, 64)
	case r.negative:
		return strconv.AppendInt(b, int64(r.bits), 10)
	}
	return strconv.AppendUint(b, r.bits, 10)
}

func signed(v int64) ranking    { return ranking{negative: v < 0, bits: uint64(v)} }
func unsigned(v uint64) ranking { return ranking{bits: v} }
func float(v float64) ranking   { return ranking{isFloat: true, float: v} }

// scoreReader returns how to read element i of a type; nil if it has no order.
func scoreReader(d tensor.Datatype) func(data []byte, i int) ranking {
	le := binary.LittleEndian
	switch d {
	case tensor.Uint8:
		return func(b []byte, i int) ranking { return unsigned(uint64(b[i])) }
	case tensor.Uint16:
		return func(b []byte, i int) ranking { return unsigned(uint64(le.Uint16(b[2*i:]))) }
	case tensor.Uint32:
		return func(b []byte, i int) ranking { return unsigned(uint64(le.Uint32(b[4*i:]))) }
	case tensor.Uint64:
		return func(b []byte, i int) ranking { return unsigned(le.Uint64(b[8*i:])) }
	case tensor.Int8:
		return func(b []byte, i int) ranking { return signed(int64(int8(b[i]))) }
	case tensor.Int16:
		return func(b []byte, i int) ranking { return signed(int64(int16(le.Uint16(b[2*i:])))) }
	case tensor.Int32:
		return func(b []byte, i int) ranking { return signed(int64(int32(le.Uint32(b[4*i:])))) }
	case tensor.Int64:
		return func(b []byte, i int) ranking { return signed(int64(le.Uint64(b[8*i:]))) }
	case tensor.FP32:
		return func(b []byte, i int) ranking { return float(float64(math.Float32frombits(le.Uint32(b[4*i:])))) }
	case tensor.FP64:
		return func(b []byte, i int) ranking { return float(math.Float64frombits(le.Uint64(b[8*i:]))) }
	}
	return nil
}
