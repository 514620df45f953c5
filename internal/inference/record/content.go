package record

import (
	"encoding/binary"
	"iter"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Side says on which side of a model a tensor is.
type Side byte

// The sides.
const (
	Input  Side = 1
	Output Side = 2
	// Feature marks the times of an input's features, see Entry.TakeTimes.
	Feature Side = 3
)

// The first byte of content: its form, and whether the policy's rules changed the inputs or
// outputs that follow.
const (
	contentForm    = 1
	alteredInputs  = 1 << 1
	alteredOutputs = 1 << 2
)

// Altered says whether the rules of a policy have masked or hashed inputs, or outputs, of
// content. Tensors that were left out do not count.
func Altered(content []byte) (inputs, outputs bool) {
	if len(content) == 0 {
		return false, false
	}
	return content[0]&alteredInputs != 0, content[0]&alteredOutputs != 0
}

// Take has the entry keep copies of the tensors that the policy asks for, until they are
// redacted and appended. It reports whether they are within the policy's MaxBytes: otherwise
// none is kept. It allocates nothing once the entry's memory has grown to the usual size.
func (e *Entry) Take(p *ContentPolicy, inputs, outputs []tensor.Tensor) bool {
	size := 0
	for i := range inputs {
		if wants(p.Inputs, inputs[i].Name) {
			size += len(inputs[i].Data)
		}
	}
	for i := range outputs {
		if wants(p.Outputs, outputs[i].Name) {
			size += len(outputs[i].Data)
		}
	}
	if size > p.MaxBytes {
		e.bare = true
		return false
	}
	b := append(e.raw[:0], contentForm)
	for i := range inputs {
		if wants(p.Inputs, inputs[i].Name) {
			b = AppendTensor(b, Input, &inputs[i])
		}
	}
	for i := range outputs {
		if wants(p.Outputs, outputs[i].Name) {
			b = AppendTensor(b, Output, &outputs[i])
		}
	}
	e.raw, e.policy = b, p
	return true
}

// TakeTimes has the entry keep the event times of the features that its inputs were made of:
// under an input's name an INT64 for each row and feature, in Unix milliseconds, 0 where a
// default was taken. Those of inputs that the policy leaves out are not kept.
func (e *Entry) TakeTimes(p *ContentPolicy, times []tensor.Tensor) {
	for i := range times {
		if wants(p.Inputs, times[i].Name) {
			e.raw = AppendTensor(e.raw, Feature, &times[i])
		}
	}
}

// Leave undoes Take.
func (e *Entry) Leave() { e.policy, e.raw, e.bare = nil, e.raw[:0], false }

// AppendTensor appends a tensor to content, which may be empty.
func AppendTensor(b []byte, side Side, t *tensor.Tensor) []byte {
	if len(b) == 0 {
		b = append(b, contentForm)
	}
	b = append(b, byte(side))
	b = appendText(b, t.Name)
	b = appendText(b, t.Datatype.String())
	b = binary.AppendUvarint(b, uint64(len(t.Shape)))
	for _, d := range t.Shape {
		b = binary.AppendUvarint(b, uint64(d))
	}
	b = binary.AppendUvarint(b, uint64(len(t.Data)))
	return append(b, t.Data...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Tensors goes through the tensors of content, whose data are views into it. It ends early
// where content is damaged: CheckContent says so.
func Tensors(content []byte) iter.Seq2[Side, tensor.Tensor] {
	return func(yield func(Side, tensor.Tensor) bool) {
		for side, t := range contents(content) {
			if t == nil || !yield(side, *t) {
				return
			}
		}
	}
}

// CheckContent fails, as fault.Invalid with the code content_invalid, where content is
// damaged.
func CheckContent(content []byte) error {
	for _, t := range contents(content) {
		if t == nil {
			return errContent
		}
	}
	return nil
}

var errContent = fault.New(fault.Invalid, "what was logged of a prediction's tensors cannot be read").WithCode("content_invalid")

// contents goes through the tensors of content. A nil tensor, the last, says that it is damaged.
func contents(content []byte) iter.Seq2[Side, *tensor.Tensor] {
	return func(yield func(Side, *tensor.Tensor) bool) {
		if len(content) == 0 {
			return
		}
		r := contentReader{rest: content[1:], bad: content[0]&^(alteredInputs|alteredOutputs) != contentForm}
		for !r.bad && len(r.rest) > 0 {
			side := Side(r.rest[0])
			r.rest = r.rest[1:]
			t := r.tensor()
			if r.bad || side < Input || side > Feature || t.Validate() != nil {
				yield(0, nil)
				return
			}
			if !yield(side, &t) {
				return
			}
		}
		if r.bad {
			yield(0, nil)
		}
	}
}

type contentReader struct {
	rest []byte
	bad  bool
}

func (r *contentReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > 1<<62 {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *contentReader) bytes() []byte {
	n := r.number()
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *contentReader) tensor() (t tensor.Tensor) {
	t.Name = string(r.bytes())
	var err error
	if t.Datatype, err = tensor.Parse(string(r.bytes())); err != nil {
		r.bad = true
	}
	dims := r.number()
	if dims > tensor.MaxDims {
		r.bad = true
		return t
	}
	t.Shape = make(tensor.Shape, dims)
	for i := range t.Shape {
		t.Shape[i] = int64(r.number())
	}
	t.Data = r.bytes()
	return t
}
