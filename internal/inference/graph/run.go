package graph

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// MaxBytes is how much memory the tensors that a graph makes for one request may
// take together.
const MaxBytes = 512 << 20

// run is one request on its way through a graph. Each slot is written by one node,
// before any that reads it begins.
type run struct {
	*shared
	graph  *Graph
	caller Caller
	value  func(from experiment.Source, name string) string
	slots  []tensor.Tensor
	rows   int64 // -1 where the graph does not batch
}

// shared is what the parts of a request have in common, which a switch tells apart.
type shared struct {
	memory  memory
	compute atomic.Int64
}

// memory owns the data of all tensors that were made for a request.
type memory struct {
	of    Memory
	mu    sync.Mutex
	slabs []*tensor.Slab
	held  int
}

// alloc returns n bytes, not zeroed.
func (m *memory) alloc(n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < 0 || n > MaxBytes-m.held {
		return nil, tooLarge()
	}
	s := tensor.GetSlab(n)
	if cap(s.B) > MaxBytes-m.held { // it may have more room than was asked for
		s.Release()
		return nil, tooLarge()
	}
	if err := m.of.Acquire(int64(cap(s.B))); err != nil {
		s.Release()
		return nil, err
	}
	m.held += cap(s.B)
	s.B = s.B[:n]
	m.slabs = append(m.slabs, s)
	return s.B, nil
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "the tensors of this request take more than %d bytes: send fewer rows", MaxBytes).WithCode("graph_too_large")
}

func (m *memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.slabs {
		s.Release()
	}
	m.of.Return(int64(m.held))
	m.slabs, m.held = nil, 0
}

// step is what a node does.
type step interface {
	run(ctx context.Context, r *run) error
}

// node is a step with a name, which its errors, spans and times have.
type node struct {
	step
	name, kind string
}

func (n *node) run(ctx context.Context, r *run) error {
	if err := ctx.Err(); err != nil {
		return fault.Of(err)
	}
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		ctx, span = span.TracerProvider().Tracer("sluice/graph").Start(ctx, "node "+n.name, trace.WithAttributes(
			attribute.String("sluice.graph", r.graph.name), attribute.String("sluice.graph.node", n.name), attribute.String("sluice.graph.kind", n.kind)))
		defer span.End()
	}
	began := time.Now()
	err := n.step.run(ctx, r)
	if err != nil {
		err = n.explain(r.graph.name, err)
		span.SetStatus(codes.Error, fault.CodeOf(err))
	}
	r.graph.observe(n.name, time.Since(began), err)
	return err
}

// failed is an error that names its node already.
type failed struct{ cause *fault.Error }

// Error implements error.
func (f failed) Error() string { return f.cause.Error() }

// Unwrap makes the error one of its kind.
func (f failed) Unwrap() error { return f.cause }

// explain names the innermost node that failed.
func (n *node) explain(graph string, err error) error {
	if _, named := err.(failed); named { //nolint:errorlint // only what explain itself has returned
		return err
	}
	f := *fault.Of(err)
	f.Message = "node '" + n.name + "' of graph '" + graph + "': " + f.Message
	return failed{&f}
}

// sequence runs nodes one after the other.
type sequence []*node

func (s sequence) run(ctx context.Context, r *run) error {
	for _, n := range s {
		if err := n.run(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// parallel runs nodes at the same time.
type parallel []*node

func (p parallel) run(ctx context.Context, r *run) error {
	return together(ctx, len(p), func(ctx context.Context, i int) error { return p[i].run(ctx, r) })
}

// together calls f n times at the same time. The first error ends the others and is
// returned, once all have.
func together(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for i := range n {
		p.Go(func(ctx context.Context) error { return f(ctx, i) })
	}
	return p.Wait()
}

// maxDepth is how deep graphs call each other; circles are refused when they are
// loaded, unless two are loaded at the same moment.
const maxDepth = 8

type depthKey struct{}

// deeper returns a context that knows of one more graph around it.
func deeper(ctx context.Context, name string) (context.Context, error) {
	depth, _ := ctx.Value(depthKey{}).(int)
	if depth == maxDepth {
		return nil, fault.New(fault.Unavailable, "graph '%s' is called by %d others around it: do they call each other in a circle?", name, maxDepth).WithCode("graph_too_deep")
	}
	return context.WithValue(ctx, depthKey{}, depth+1), nil
}
