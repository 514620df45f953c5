package serve

import (
	"sync"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/tensor"
)

// copied is an answered request on its way to a shadow. It owns its memory: the
// inputs were copied, since the wire's own memory goes with the request, and the
// answer was taken from the call, which has no more use for it.
type copied struct {
	to     *Version
	shadow *route.Shadow
	choice record.Choice
	tenant string
	began  time.Time

	inputs []tensor.Tensor
	dims   []int64
	slab   *tensor.Slab

	pair       route.Pair
	answerDims []int64
	answerSlab *tensor.Slab

	size int64 // bytes that it keeps from others
}

var copies = sync.Pool{New: func() any { return new(copied) }}

// footprint is how many bytes a copy of the call takes.
func (c *call) footprint() int64 { return sizeOf(c.part.Inputs) + sizeOf(c.part.Outputs) }

func sizeOf(tensors []tensor.Tensor) (n int64) {
	for i := range tensors {
		n += int64(aligned(len(tensors[i].Data)))
	}
	return n
}

func aligned(n int) int { return (n + 7) &^ 7 }

// copyOf copies the inputs of an answered call, and takes its outputs over. A graph's outputs
// may be views of the inputs: they are copied, too.
func copyOf(v *Version, c *call) *copied {
	d := copies.Get().(*copied)
	size := sizeOf(c.part.Inputs)
	if c.result != nil {
		size += sizeOf(c.part.Outputs)
	}
	d.slab = tensor.GetSlab(int(size))
	d.inputs = d.own(d.inputs, c.part.Inputs)
	for i := range d.inputs {
		d.inputs[i].Name = v.graph.Inputs[i].Name // the client's own text goes with its request
	}
	d.pair.Rows = c.part.Rows
	d.pair.Champion = route.Answered{Prediction: c.request.Prediction, Took: c.response.Timing.Infer}
	if c.result != nil {
		d.pair.Champion.Outputs = d.own(nil, c.part.Outputs)
		return d
	}
	d.pair.Champion.Outputs, d.answerDims, d.answerSlab = c.part.Outputs, c.part.Dims, c.part.Slab
	c.part.Outputs, c.part.Dims, c.part.Slab = nil, nil, nil
	return d
}

// own appends copies of tensors, whose memory is the slab's.
func (d *copied) own(to, tensors []tensor.Tensor) []tensor.Tensor {
	for _, t := range tensors {
		at, n := len(d.slab.B), len(t.Data)
		d.slab.B = d.slab.B[:at+aligned(n)]
		copy(d.slab.B[at:], t.Data)
		t.Data = d.slab.B[at : at+n : at+n]
		from := len(d.dims)
		d.dims = append(d.dims, t.Shape...)
		t.Shape = tensor.Shape(d.dims[from:len(d.dims):len(d.dims)])
		to = append(to, t)
	}
	return to
}

// free gives the memory back.
func (d *copied) free() {
	d.slab.Release()
	d.answerSlab.Release()
	clear(d.inputs)
	*d = copied{inputs: d.inputs[:0], dims: d.dims[:0]}
	copies.Put(d)
}
