package ortengine

import (
	"encoding/binary"
	"hash/maphash"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// bind returns the values for l.shapes, making them when they are new.
func (l *slot) bind() (*binding, error) {
	key := l.key()
	if b, ok := l.bindings[key]; ok && equalShapes(b.shapes, l.shapes) {
		return b, nil
	}
	if err := l.checkOutputs(); err != nil {
		return nil, err
	}
	if err := l.growBlocks(); err != nil {
		return nil, err
	}
	if len(l.bindings) >= maxBindings {
		l.dropBindings()
	}
	if old := l.bindings[key]; old != nil {
		old.destroy()
	}
	b, err := l.newBinding()
	if err != nil {
		return nil, err
	}
	l.bindings[key] = b
	return b, nil
}

func (l *slot) key() uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	var word [8]byte
	for _, shape := range l.shapes {
		for _, d := range shape {
			binary.LittleEndian.PutUint64(word[:], uint64(d))
			_, _ = h.Write(word[:])
		}
	}
	return h.Sum64()
}

func equalShapes(a, b []tensor.Shape) bool {
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// growBlocks makes the slot's memory large enough for l.shapes. Existing
// values point into the old memory, so growth drops them all; a block is made
// for the session's largest batch at once where that is affordable.
func (l *slot) growBlocks() error {
	for i, shape := range l.shapes {
		if err := l.grow(&l.inputs[i], l.s.sig.Inputs[i].Datatype, shape); err != nil {
			return err
		}
	}
	for o, p := range l.s.sig.Outputs {
		if !l.s.shapes.resolvable(o) || p.Datatype == tensor.Bytes || l.s.shapes.echoes[o] >= 0 {
			continue
		}
		if err := l.grow(&l.outputs[o], p.Datatype, l.s.shapes.appendShape(nil, o, l.shapes)); err != nil {
			return err
		}
	}
	return nil
}

func (l *slot) grow(block *[]byte, d tensor.Datatype, shape tensor.Shape) error {
	if d == tensor.Bytes {
		return nil
	}
	need, err := tensor.ByteSize(d, shape)
	if err != nil {
		return err
	}
	if int64(len(*block)) >= max(need, 1) {
		return nil
	}
	if l.s.batches && len(shape) > 0 && shape[0] > 0 {
		if full := need / shape[0] * int64(l.s.rows); full <= eagerBlock {
			need = max(need, full)
		} else {
			need += need / 2
		}
	}
	l.dropBindings()
	return resize(block, int(need))
}

func (l *slot) dropBindings() {
	for _, b := range l.bindings {
		b.destroy()
	}
	clear(l.bindings)
}

func (l *slot) newBinding() (*binding, error) {
	b := &binding{outputs: make([]ort.Value, len(l.outputs)), outputShapes: make([]tensor.Shape, len(l.outputs))}
	for i, shape := range l.shapes {
		b.shapes = append(b.shapes, append(tensor.Shape{}, shape...))
		v, err := l.value(l.inputs[i], l.s.sig.Inputs[i].Datatype, shape)
		if err != nil {
			b.destroy()
			return nil, fault.Wrap(fault.Internal, err, "model %q: cannot make input %q of shape %s", l.s.name, l.s.sig.Inputs[i].Name, shape)
		}
		b.inputs = append(b.inputs, v)
	}
	for o, p := range l.s.sig.Outputs {
		if i := l.s.shapes.echoes[o]; i >= 0 {
			// The runtime writes no output that is an input itself: memory of
			// its own would show what was there before.
			b.outputs[o], b.outputShapes[o] = b.inputs[i], b.shapes[i]
			continue
		}
		if l.outputs[o] == nil {
			continue
		}
		shape := l.s.shapes.appendShape(nil, o, l.shapes)
		v, err := l.value(l.outputs[o], p.Datatype, shape)
		if err != nil {
			b.destroy()
			return nil, fault.Wrap(fault.Internal, err, "model %q: cannot make output %q of shape %s", l.s.name, p.Name, shape)
		}
		b.outputs[o], b.outputShapes[o] = v, shape
	}
	return b, nil
}

// value wraps the start of a block, or makes a tensor of strings.
func (l *slot) value(block []byte, d tensor.Datatype, shape tensor.Shape) (ort.Value, error) {
	if d == tensor.Bytes {
		return ort.NewStringTensor(ort.Shape(shape))
	}
	size, err := tensor.ByteSize(d, shape)
	if err != nil {
		return nil, err
	}
	return ort.NewCustomDataTensor(ort.Shape(shape), block[:max(size, 1)], elementTypes[d])
}

func (b *binding) destroy() {
	for _, v := range b.inputs {
		_ = v.Destroy()
	}
	for _, v := range b.outputs {
		if v != nil && !slices.Contains(b.inputs, v) {
			_ = v.Destroy()
		}
	}
}

// gather copies the parts' rows into the slot's memory, one after another.
func (l *slot) gather(b *binding, parts []*engine.Part) error {
	for i, p := range l.s.sig.Inputs {
		if p.Datatype == tensor.Bytes {
			if err := b.gatherStrings(i, parts); err != nil {
				return err
			}
			continue
		}
		want, err := tensor.ByteSize(p.Datatype, b.shapes[i])
		if err != nil {
			return err
		}
		block, at := l.inputs[i][:want], 0
		for _, part := range parts {
			n := copy(block[at:], part.Inputs[i].Data)
			if n != len(part.Inputs[i].Data) {
				at = -1
				break
			}
			at += n
		}
		if int64(at) != want {
			return fault.New(fault.Internal, "input %q of model %q: the data does not fill shape %s", p.Name, l.s.name, b.shapes[i])
		}
	}
	return nil
}

// gatherStrings copies the parts' elements into the runtime's tensor. Every
// element is written: what a shorter part left over would be another client's.
func (b *binding) gatherStrings(input int, parts []*engine.Part) error {
	at := int64(0)
	for _, part := range parts {
		n, err := setStrings(b.inputs[input].(*ort.StringTensor), at, part.Inputs[input].Data)
		if err != nil {
			return err
		}
		at += n
		b.strings += len(part.Inputs[input].Data)
	}
	if want, err := b.shapes[input].Elements(); err != nil || at != want {
		return fault.New(fault.Internal, "%d strings do not fill shape %s", at, b.shapes[input])
	}
	return nil
}
