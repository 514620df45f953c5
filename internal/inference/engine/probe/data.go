package probe

import (
	"encoding/binary"
	"math"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
)

// kind is what a synthetic row is made of.
type kind int

const (
	ordinary  kind = iota // floats of N(0,1), integers 0 and 1, short words
	wide                  // the same, and integers from all of the input's range
	large                 // a hundred times the floats, and integers as wide
	small                 // a thousandth of the floats
	extreme               // floats that are large and finite, the ends of the input's range of integers
	padding               // zeros and empty strings
	notNumber             // NaN
	hostile               // NaN, infinities, the greatest and least integers of the type, odd strings
)

// part returns one synthetic row.
func (p *prober) part(k kind) *engine.Part {
	part := &engine.Part{Rows: 1}
	for i, port := range p.spec.Signature.Inputs {
		shape := append(tensor.Shape{}, port.Shape...)
		for d := range shape {
			switch {
			case d == 0 && p.spec.Batches:
				shape[d] = 1
			case shape[d] < 0:
				shape[d] = p.extent
			}
		}
		n, err := shape.Elements()
		if err != nil {
			n = 0 // the session will say what is wrong with the shape
		}
		part.Inputs = append(part.Inputs, tensor.Tensor{
			Name: port.Name, Datatype: port.Datatype, Shape: shape, Data: p.data(i, int(n), k),
		})
	}
	return part
}

// data returns n elements for an input.
func (p *prober) data(input, n int, k kind) []byte {
	var data []byte
	d, integers := p.spec.Signature.Inputs[input].Datatype, p.below(p.ranges[input], k)
	for i := range n {
		switch d {
		case tensor.Bytes:
			data = tensor.AppendBytes(data, p.word(k))
		case tensor.FP32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(p.float(k, i))))
		case tensor.FP64:
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(p.float(k, i)))
		case tensor.FP16:
			data = binary.LittleEndian.AppendUint16(data, p.half(k, 10, 15))
		case tensor.BF16:
			data = binary.LittleEndian.AppendUint16(data, p.half(k, 7, 127))
		case tensor.Bool:
			data = append(data, byte(p.rand.IntN(2)))
		default:
			data = appendInteger(data, d, p.integer(d, integers, k, i))
		}
	}
	return data
}

func (p *prober) float(k kind, i int) float64 {
	switch k {
	case large:
		return 100 * p.rand.NormFloat64()
	case small:
		return p.rand.NormFloat64() / 1000
	case extreme:
		return [...]float64{1e4, -1e4}[i%2]
	case padding:
		return 0
	case notNumber:
		return math.NaN()
	case hostile:
		return [...]float64{math.NaN(), math.Inf(1), math.Inf(-1), 3e38, -3e38}[i%5]
	default:
		return p.rand.NormFloat64()
	}
}

// half returns a 16-bit float with so many bits of mantissa and such a bias:
// of either sign, between a half and one times a power of two by the kind.
func (p *prober) half(k kind, mantissa int, bias uint16) uint16 {
	exponent := bias - 1
	switch k {
	case large:
		exponent += 6
	case small:
		exponent -= 10
	case extreme:
		exponent += 13
	case padding:
		return 0
	case notNumber:
		return (2*bias+1)<<mantissa | 1
	case hostile:
		return (2*bias+1)<<mantissa | uint16(p.rand.IntN(2))
	}
	bits := uint16(p.rand.Uint32())
	return bits&0x8000 | exponent<<mantissa | bits&(1<<mantissa-1)
}

func (p *prober) word(k kind) string {
	switch k {
	case padding:
		return ""
	case hostile:
		return "\x00\xff \u202e\n" + string(make([]byte, 100))
	default:
		words := [...]string{"the petal length", "a digit of eight by eight pixels", "blood pressure", "x", "Mean radius, worst texture"}
		return words[p.rand.IntN(len(words))]
	}
}
