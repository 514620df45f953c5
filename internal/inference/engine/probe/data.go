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
	random  kind = iota // ordinary values: N(0,1), zeros and ones, short words
	padding             // zeros and empty strings
	hostile             // NaN, infinities, extreme integers, odd strings
)

// varyingExtent stands in for every extent that may vary, so that all rows of
// a probe can share a run.
const varyingExtent = 6

// part returns one synthetic row.
func (p *prober) part(k kind) *engine.Part {
	part := &engine.Part{Rows: 1}
	for _, port := range p.spec.Signature.Inputs {
		shape := append(tensor.Shape{}, port.Shape...)
		for d := range shape {
			switch {
			case d == 0 && p.spec.Batches:
				shape[d] = 1
			case shape[d] < 0:
				shape[d] = varyingExtent
			}
		}
		n, err := shape.Elements()
		if err != nil {
			n = 0 // the session will say what is wrong with the shape
		}
		part.Inputs = append(part.Inputs, tensor.Tensor{
			Name: port.Name, Datatype: port.Datatype, Shape: shape, Data: p.data(port.Datatype, int(n), k),
		})
	}
	return part
}

func (p *prober) data(d tensor.Datatype, n int, k kind) []byte {
	var data []byte
	for i := range n {
		switch d {
		case tensor.Bytes:
			data = tensor.AppendBytes(data, p.word(k))
		case tensor.FP32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(p.float(k, i))))
		case tensor.FP64:
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(p.float(k, i)))
		case tensor.FP16:
			data = binary.LittleEndian.AppendUint16(data, p.half(k, 0x3800, 0x03ff, 0x7c00))
		case tensor.BF16:
			data = binary.LittleEndian.AppendUint16(data, p.half(k, 0x3f00, 0x007f, 0x7f80))
		case tensor.Bool:
			data = append(data, byte(p.rand.IntN(2)))
		default:
			data = append(data, p.integer(d, k)...)
		}
	}
	return data
}

func (p *prober) float(k kind, i int) float64 {
	switch k {
	case padding:
		return 0
	case hostile:
		return [...]float64{math.NaN(), math.Inf(1), math.Inf(-1), 3e38, -3e38}[i%5]
	default:
		return p.rand.NormFloat64()
	}
}

// half returns a 16-bit float between 0.5 and 1, zero, or an infinity or NaN.
func (p *prober) half(k kind, base, mantissa, inf uint16) uint16 {
	switch k {
	case padding:
		return 0
	case hostile:
		return inf | uint16(p.rand.IntN(2))
	default:
		return base | uint16(p.rand.Uint32())&mantissa
	}
}

// integer returns 0 or 1, since any larger value may be an index out of range,
// except for a hostile row, which gets the type's greatest or least value.
func (p *prober) integer(d tensor.Datatype, k kind) []byte {
	b := make([]byte, d.Size())
	switch k {
	case padding:
	case hostile:
		for i := range b {
			b[i] = 0xff
		}
		switch d {
		case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
			b[len(b)-1] = [...]byte{0x7f, 0x80}[p.rand.IntN(2)]
		}
	default:
		if p.rand.IntN(4) > 0 {
			b[0] = 1
		}
	}
	return b
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
