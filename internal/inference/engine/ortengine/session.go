package ortengine

import (
	"context"
	"fmt"
	"sync"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// session is a loaded model with its idle run slots. There are as many slots
// as runs were ever in progress at once; the batcher bounds that number.
type session struct {
	native  *ort.DynamicAdvancedSession
	name    string
	sig     *model.Signature
	batches bool
	shrink  bool // give the arena's memory back after each run
	rows    int  // rows that a slot's blocks are made for

	shapes *shapeResolver

	mu   sync.Mutex
	idle []*slot
}

func newSession(native *ort.DynamicAdvancedSession, spec engine.Spec) *session {
	s := &session{
		native: native, name: spec.Name, sig: spec.Signature, batches: spec.Batches,
		shrink: spec.Execution.NoArena, rows: max(spec.MaxRows, 1), shapes: newShapeResolver(spec.Signature),
	}
	if s.batches {
		s.shapes.useBatch()
	}
	return s
}

// Run implements engine.Session.
func (s *session) Run(ctx context.Context, parts []*engine.Part) error {
	rows := 0
	for _, p := range parts {
		if len(p.Inputs) != len(s.sig.Inputs) {
			return fault.New(fault.Internal, "model %q takes %d inputs, a part has %d", s.name, len(s.sig.Inputs), len(p.Inputs))
		}
		rows += p.Rows
	}
	if !s.batches && len(parts) != 1 {
		return fault.New(fault.Internal, "model %q does not batch, but was given %d parts", s.name, len(parts))
	}
	slot, err := s.acquire()
	if err != nil {
		return err
	}
	defer s.giveBack(slot)
	return slot.run(ctx, parts, rows)
}

// Close implements engine.Session.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, slot := range s.idle {
		slot.close()
	}
	s.idle = nil
	err := s.native.Destroy()
	trim()
	return err
}

func (s *session) acquire() (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		slot := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return slot, nil
	}
	return newSlot(s)
}

func (s *session) giveBack(slot *slot) {
	s.mu.Lock()
	s.idle = append(s.idle, slot)
	s.mu.Unlock()
}

// learnTimeout bounds the run that learns output shapes.
const learnTimeout = 300 * time.Millisecond

// learnOutputShapes runs the model once on zeros, with odd extents where they
// may vary, and stops predicting the shape of every output that does not come
// out as the model declares it. A model that cannot run on such data, or not in
// time, keeps its declaration: a wrong one then shows as an error of the run, never as wrong
// data, since the runtime checks the shape of the memory that it writes to.
func (s *session) learnOutputShapes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	part := s.zeroPart()
	probe := &session{
		native: s.native, name: s.name, sig: s.sig, batches: s.batches, rows: part.Rows,
		shapes: &shapeResolver{outputs: make([][]dimSource, len(s.sig.Outputs)), echoes: s.shapes.echoes},
	}
	for o, p := range s.sig.Outputs {
		if p.Datatype == tensor.FP16 || p.Datatype == tensor.BF16 {
			probe.shapes.outputs[o] = s.shapes.outputs[o]
		}
	}
	slot, err := newSlot(probe)
	if err != nil {
		return
	}
	defer slot.close()
	if err := slot.run(ctx, []*engine.Part{part}, part.Rows); err != nil {
		return
	}
	defer part.Reset()
	inputs := make([]tensor.Shape, len(part.Inputs))
	for i := range part.Inputs {
		inputs[i] = part.Inputs[i].Shape
	}
	for o := range part.Outputs {
		if s.shapes.resolvable(o) && !s.shapes.appendShape(nil, o, inputs).Equal(part.Outputs[o].Shape) {
			s.shapes.forget(o)
		}
	}
}

// zeroPart returns zeros in which every varying extent of an input is unlike
// the others, unless their symbols say that they are the same.
func (s *session) zeroPart() *engine.Part {
	part := &engine.Part{Rows: 1}
	if s.batches {
		part.Rows = min(2, s.rows)
	}
	next, extents := int64(3), map[string]int64{}
	for _, p := range s.sig.Inputs {
		shape := append(tensor.Shape{}, p.Shape...)
		for d := range shape {
			switch {
			case shape[d] >= 0:
			case d == 0 && s.batches:
				shape[d] = int64(part.Rows)
			default:
				key := fmt.Sprintf("%s/%d", p.Name, d)
				if d < len(p.Symbols) && p.Symbols[d] != "" {
					key = p.Symbols[d]
				}
				if extents[key] == 0 {
					extents[key] = next
					next += 2
				}
				shape[d] = extents[key]
			}
		}
		part.Inputs = append(part.Inputs, tensor.Tensor{Name: p.Name, Datatype: p.Datatype, Shape: shape, Data: zeros(p.Datatype, shape)})
	}
	return part
}

// zeros returns zero data of a shape; for BYTES that is empty strings.
func zeros(d tensor.Datatype, shape tensor.Shape) []byte {
	n, err := shape.Elements()
	if err != nil {
		return nil
	}
	if d == tensor.Bytes {
		return make([]byte, 4*n)
	}
	return make([]byte, n*int64(d.Size()))
}
