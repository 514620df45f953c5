package ortengine

import (
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// split copies each part's rows of every output into a slab of the part's own,
// which leaves the slot free for its next run.
func (l *slot) split(b *binding, parts []*engine.Part, rows int) error {
	outputs, err := l.results(b)
	if err != nil {
		return err
	}
	for o := range outputs {
		if err := l.checkRows(&outputs[o], len(parts), rows); err != nil {
			return err
		}
	}
	from := 0
	for _, p := range parts {
		for o := range outputs {
			t := outputs[o].part(from, p.Rows, rows)
			at := len(p.Dims)
			p.Dims = append(p.Dims, t.Shape...)
			t.Shape = tensor.Shape(p.Dims[at:len(p.Dims):len(p.Dims)])
			if !outputs[o].whole {
				t.Shape[0] = int64(p.Rows)
			}
			p.Outputs = append(p.Outputs, t)
		}
		from += p.Rows
		p.Own()
	}
	return nil
}

// result is one output of the whole run.
type result struct {
	tensor.Tensor
	strings []string // in place of Data, for BYTES
	whole   bool     // has no rows: the only part gets all of it
}

// results returns the run's outputs as views of the slot's memory.
func (l *slot) results(b *binding) ([]result, error) {
	outputs := l.scratch[:0]
	for o, v := range l.values {
		p := &l.s.sig.Outputs[o]
		r := result{Tensor: tensor.Tensor{Name: p.Name, Datatype: p.Datatype}}
		if b.outputs[o] != nil && p.Datatype != tensor.Bytes {
			r.Shape = b.outputShapes[o]
			size, err := tensor.ByteSize(p.Datatype, r.Shape)
			if err != nil {
				return nil, err
			}
			block := l.outputs[o]
			if i := l.s.shapes.echoes[o]; i >= 0 {
				block = l.inputs[i]
			}
			r.Data = block[:size]
		} else {
			r.Shape = tensor.Shape(v.GetShape())
			if err := r.read(v); err != nil {
				return nil, fault.Wrap(fault.Internal, err, "model %q: cannot read output %q", l.s.name, p.Name)
			}
		}
		outputs = append(outputs, r)
	}
	l.scratch = outputs
	return outputs, nil
}

// checkRows makes sure that the output can be told apart by rows.
func (l *slot) checkRows(r *result, parts, rows int) error {
	r.whole = !l.s.batches || (parts == 1 && (len(r.Shape) == 0 || r.Shape[0] != int64(rows)))
	if !r.whole && (len(r.Shape) == 0 || r.Shape[0] != int64(rows)) {
		return fault.New(fault.Internal, "model %q: output %q has shape %s for a batch of %d rows, so its rows cannot be told apart; set max_batch_size to 0",
			l.s.name, r.Name, r.Shape, rows)
	}
	return nil
}

// part returns rows [from, from+n) of total, as a view (BYTES: encoded anew).
func (r *result) part(from, n, total int) tensor.Tensor {
	t := r.Tensor
	if r.whole {
		if t.Datatype == tensor.Bytes {
			t.Data = encodeStrings(r.strings)
		}
		return t
	}
	if t.Datatype == tensor.Bytes {
		width := 0
		if total > 0 {
			width = len(r.strings) / total
		}
		t.Data = encodeStrings(r.strings[from*width : (from+n)*width])
	} else {
		width := 0
		if total > 0 {
			width = len(t.Data) / total
		}
		t.Data = t.Data[from*width : (from+n)*width]
	}
	return t
}

func encodeStrings(elements []string) []byte {
	size := 0
	for _, e := range elements {
		size += 4 + len(e)
	}
	data := make([]byte, 0, size)
	for _, e := range elements {
		data = tensor.AppendBytes(data, e)
	}
	return data
}

// read takes the data of an output that the runtime allocated.
func (r *result) read(v ort.Value) (err error) {
	switch t := v.(type) {
	case *ort.StringTensor:
		r.strings, err = t.GetContents()
	case *ort.Tensor[float32]:
		r.Data = view(t.GetData())
	case *ort.Tensor[float64]:
		r.Data = view(t.GetData())
	case *ort.Tensor[int64]:
		r.Data = view(t.GetData())
	case *ort.Tensor[int32]:
		r.Data = view(t.GetData())
	case *ort.Tensor[int16]:
		r.Data = view(t.GetData())
	case *ort.Tensor[int8]:
		r.Data = view(t.GetData())
	case *ort.Tensor[uint64]:
		r.Data = view(t.GetData())
	case *ort.Tensor[uint32]:
		r.Data = view(t.GetData())
	case *ort.Tensor[uint16]:
		r.Data = view(t.GetData())
	case *ort.Tensor[uint8]:
		r.Data = view(t.GetData())
	case *ort.Tensor[bool]:
		r.Data = view(t.GetData())
	default:
		err = fault.New(fault.Unsupported, "a value of type %T cannot be carried; only tensors can", v)
	}
	return err
}

func view[T any](data []T) []byte {
	if len(data) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), len(data)*int(unsafe.Sizeof(data[0])))
}
