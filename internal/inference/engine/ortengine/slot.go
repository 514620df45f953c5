package ortengine

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// maxBindings bounds the shapes that a slot remembers, and eagerBlock the
// memory that an input or output is given before its rows are seen.
const (
	maxBindings = 512
	eagerBlock  = 4 << 20
)

// slot is what one run at a time needs: memory, value objects, run options.
type slot struct {
	s       *session
	options *ort.RunOptions

	inputs, outputs [][]byte // C memory by port; nil for BYTES and unpredictable outputs
	bindings        map[uint64]*binding
	seed            maphash.Seed

	shapes  []tensor.Shape // of this run's inputs; reused
	values  []ort.Value    // of this run's outputs; reused
	scratch []result       // of this run; reused

	// Guards termination: a cancellation may arrive late, when the slot
	// already serves another run.
	mu      sync.Mutex
	running bool
	epoch   uint64
}

// binding holds the value objects for one set of input shapes.
type binding struct {
	shapes       []tensor.Shape // of the inputs
	inputs       []ort.Value
	outputs      []ort.Value // nil where the runtime allocates
	outputShapes []tensor.Shape
}

func newSlot(s *session) (*slot, error) {
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make run options")
	}
	if s.shrink {
		if err := options.AddRunConfigEntry("memory.enable_memory_arena_shrinkage", "cpu:0"); err != nil {
			_ = options.Destroy()
			return nil, fault.Wrap(fault.Internal, err, "cannot set arena shrinkage")
		}
	}
	return &slot{
		s: s, options: options, bindings: map[uint64]*binding{}, seed: maphash.MakeSeed(),
		inputs: make([][]byte, len(s.sig.Inputs)), outputs: make([][]byte, len(s.sig.Outputs)),
		shapes: make([]tensor.Shape, len(s.sig.Inputs)), values: make([]ort.Value, len(s.sig.Outputs)),
	}, nil
}

func (l *slot) close() {
	l.dropBindings()
	for _, block := range slices.Concat(l.inputs, l.outputs) {
		release(block)
	}
	_ = l.options.Destroy()
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
	if err := l.call(ctx, b); err != nil {
		return err
	}
	defer l.releaseAutomatic(b)
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
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() != nil {
		defer l.watch(ctx)()
	}
	err := l.s.native.RunWithOptions(b.inputs, l.values, l.options)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fault.Wrap(fault.Internal, err, "model %q failed: %s", l.s.name, runtimeReason(err))
}

// watch terminates the run when ctx ends. The returned function must be called
// after the run; a cancellation that comes later has no effect on the slot.
func (l *slot) watch(ctx context.Context) func() {
	l.mu.Lock()
	l.running = true
	l.epoch++
	epoch := l.epoch
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.running && l.epoch == epoch {
			_ = l.options.Terminate()
		}
	})
	return func() {
		stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running = false
		if ctx.Err() != nil {
			_ = l.options.UnsetTerminate()
		}
	}
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
