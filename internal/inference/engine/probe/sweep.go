package probe

import (
	"context"
	"sync"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Point is the cost of one run of Rows rows with Beside other runs in
// progress.
type Point struct {
	Rows, Beside int
	Took         time.Duration
}

// Sweep measures runs of 1, 2, 4 … MaxRows rows, each the best of a few, and
// the smallest again beside a second run. It stops early rather than exceed
// the budget by more than one run, and measures nothing that fails. A run that
// takes twenty times the budget is ended; where that is the very first, the
// time that it took so far is returned.
func Sweep(ctx context.Context, s engine.Session, spec engine.Spec, budget time.Duration) []Point {
	bounded, cancel := context.WithTimeout(ctx, 20*budget)
	defer cancel()
	p := newProber(bounded, s, spec, 3)
	started := time.Now()
	var points []Point
	for n := 1; ; n = min(2*n, spec.MaxRows) {
		batch := p.batch(n)
		start := time.Now()
		err := p.run(p.ctx, batch...) // also the first, slow run of this shape
		took := time.Since(start)
		if err != nil {
			if n == 1 && bounded.Err() != nil && ctx.Err() == nil {
				return []Point{{Rows: 1, Took: took}}
			}
			return points
		}
		took = min(took, p.best(batch, 3))
		points = append(points, Point{Rows: n, Took: took})
		// The next size takes about twice as long, a few times over.
		if n >= spec.MaxRows || time.Since(started)+6*took > budget {
			break
		}
	}
	if took, ok := p.beside(points[0].Took); ok {
		points = append(points, Point{Rows: 1, Beside: 1, Took: took})
	}
	return points
}

// batch returns n ordinary rows.
func (p *prober) batch(n int) []*row {
	batch := make([]*row, n)
	for i := range batch {
		batch[i] = p.row(ordinary)
	}
	return batch
}

// unmeasured is longer than any run.
const unmeasured = time.Duration(1<<63 - 1)

// best returns the shortest of some runs: what the model costs undisturbed.
func (p *prober) best(batch []*row, runs int) time.Duration {
	best := unmeasured
	for range runs {
		start := time.Now()
		if p.run(p.ctx, batch...) == nil {
			best = min(best, time.Since(start))
		}
	}
	return best
}

// beside measures a run of one row while another goroutine runs the same.
func (p *prober) beside(alone time.Duration) (time.Duration, bool) {
	const runs = 4
	if alone > 20*time.Millisecond {
		return 0, false
	}
	other := newProber(p.ctx, p.session, p.spec, 5)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		batch := other.batch(1)
		for {
			select {
			case <-stop:
				return
			default:
				_ = other.run(other.ctx, batch...)
			}
		}
	})
	took := p.best(p.batch(1), runs)
	close(stop)
	wg.Wait()
	return took, took != unmeasured
}

// Warm runs one configured warm-up request as often as it asks for.
func Warm(ctx context.Context, s engine.Session, spec engine.Spec, w model.Warmup) error {
	p := newProber(ctx, s, spec, 7)
	part := &engine.Part{Rows: 1}
	if spec.Batches {
		part.Rows = max(w.BatchSize, 1)
	}
	for i, port := range spec.Signature.Inputs {
		in, ok := w.Inputs[port.Name]
		if !ok {
			return fault.New(fault.Invalid, "it gives no data for input %q", port.Name)
		}
		shape := append(tensor.Shape{}, in.Dims...)
		if spec.Batches {
			shape = append(tensor.Shape{int64(part.Rows)}, shape...)
		}
		n, err := shape.Elements()
		if err != nil {
			return err
		}
		k := padding
		if in.Random {
			k = ordinary
		}
		part.Inputs = append(part.Inputs, tensor.Tensor{Name: port.Name, Datatype: port.Datatype, Shape: shape, Data: p.data(i, int(n), k)})
	}
	for range max(w.Count, 1) {
		if err := p.run(ctx, &row{Part: part}); err != nil {
			return err
		}
	}
	return nil
}
