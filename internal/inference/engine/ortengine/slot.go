package ortengine

import (
	"context"
	"hash/maphash"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// maxBindings bounds the shapes that a slot remembers.
const maxBindings = 512

// slot is what one run at a time needs: memory, value objects, run options.
type slot struct {
	s       *session
	options *ort.RunOptions
	// shrinking are the options of large runs, after which the runtime gives
	// its working memory back.
	shrinking *ort.RunOptions

	inputs, outputs [][]byte // C memory by port; nil for BYTES and unpredictable outputs
	bindings        map[uint64]*binding
	seed            maphash.Seed

	shapes  []tensor.Shape // of this run's inputs; reused
	values  []ort.Value    // of this run's outputs; reused
	shape   tensor.Shape   // of one output; reused
	scratch []result       // of this run; reused

	watch watch
}

// binding holds the value objects for one set of input shapes.
type binding struct {
	shapes       []tensor.Shape // of the inputs
	inputs       []ort.Value
	outputs      []ort.Value // nil where the runtime allocates
	outputShapes []tensor.Shape
	strings      int // bytes of the strings in inputs, at least
}

func newSlot(s *session) (*slot, error) {
	options, err := runOptions(s.shrink)
	if err != nil {
		return nil, err
	}
	shrinking, err := runOptions(true)
	if err != nil {
		_ = options.Destroy()
		return nil, err
	}
	return &slot{
		s: s, options: options, shrinking: shrinking, bindings: map[uint64]*binding{}, seed: maphash.MakeSeed(),
		inputs: make([][]byte, len(s.sig.Inputs)), outputs: make([][]byte, len(s.sig.Outputs)),
		shapes: make([]tensor.Shape, len(s.sig.Inputs)), values: make([]ort.Value, len(s.sig.Outputs)),
	}, nil
}

func runOptions(shrink bool) (*ort.RunOptions, error) {
	options, err := ort.NewRunOptions()
	if err == nil && shrink {
		if err = options.AddRunConfigEntry("memory.enable_memory_arena_shrinkage", "cpu:0"); err != nil {
			_ = options.Destroy()
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make run options")
	}
	return options, nil
}

func (l *slot) close() {
	l.watch.forget()
	l.dropBindings()
	for _, blocks := range [][][]byte{l.inputs, l.outputs} {
		for i := range blocks {
			free(&blocks[i])
		}
	}
	_ = l.options.Destroy()
	_ = l.shrinking.Destroy()
}

func (l *slot) run(ctx context.Context, parts []*engine.Part, rows int) error {
	if err := l.mergeShapes(parts, rows); err != nil {
		return err
	}
	b, err := l.bind()
	if err != nil {
		return err
	}
	if err := l.gather(b, parts); err != nil {
		return err
	}
	copy(l.values, b.outputs)
	defer l.shed(b)
	defer l.releaseAutomatic(b)
	if err := l.call(ctx, b); err != nil {
		return err
	}
	return l.split(b, parts, rows)
}

// mergeShapes sets l.shapes to the shapes of the concatenated inputs.
func (l *slot) mergeShapes(parts []*engine.Part, rows int) error {
	for i := range l.shapes {
		first := parts[0].Inputs[i].Shape
		l.shapes[i] = append(l.shapes[i][:0], first...)
		if !l.s.batches {
			continue
		}
		if len(first) == 0 {
			return fault.New(fault.Internal, "input %q of model %q has no batch dimension", l.s.sig.Inputs[i].Name, l.s.name)
		}
		l.shapes[i][0] = int64(rows)
		for _, p := range parts[1:] {
			if shape := p.Inputs[i].Shape; len(shape) != len(first) || !shape[1:].Equal(first[1:]) {
				return fault.New(fault.Internal, "input %q of model %q: shapes %s and %s cannot share a run", l.s.sig.Inputs[i].Name, l.s.name, first, shape)
			}
		}
	}
	return nil
}

// call runs the model; it returns early where ctx ends and the runtime reaches
// the end of a node.
func (l *slot) call(ctx context.Context, b *binding) error {
	options := l.options
	if l.big() {
		options = l.shrinking
	}
	if err := l.watch.begin(ctx, options); err != nil {
		return err
	}
	defer l.watch.end()
	err := l.s.native.RunWithOptions(b.inputs, l.values, options)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fault.Wrap(fault.Internal, err, "model %q failed on this input: %s", l.s.name, runtimeReason(err))
}

// big says whether the run's inputs and outputs take much memory.
func (l *slot) big() bool {
	total := 0
	for _, blocks := range [][][]byte{l.inputs, l.outputs} {
		for _, block := range blocks {
			total += len(block)
		}
	}
	return total > bigRun
}

// releaseAutomatic frees the outputs that the runtime allocated.
func (l *slot) releaseAutomatic(b *binding) {
	for o, v := range l.values {
		if b.outputs[o] == nil && v != nil {
			_ = v.Destroy()
		}
		l.values[o] = nil
	}
}
