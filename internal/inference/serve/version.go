package serve

import (
	"context"
	"sync"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/graph"
	"sluice/internal/inference/model"
)

// machinery is what runs a version; that of one that is not loaded is zero.
type machinery struct {
	session  engine.Session
	batcher  *batcher.Batcher[*call]
	graph    *graph.Graph // of a graph, which has neither session nor batcher; nil for others
	metrics  versionMetrics
	recorder Recorder      // nil for none
	closed   chan struct{} // closed when the session is freed
}

// start makes v ready to serve on a session, which it owns from here on. The
// caller holds the first reference.
func (v *Version) start(session engine.Session, cfg batcher.Config, m *metrics, r Recorder) error {
	v.runtime = machinery{session: session, metrics: m.version(v), recorder: r, closed: make(chan struct{})}
	b, err := batcher.New(v.runBatch, cfg)
	if err != nil {
		return err
	}
	v.runtime.batcher = b
	v.serve()
	return nil
}

// serve notes what v takes, and counts the caller's reference.
func (v *Version) serve() {
	for _, p := range v.graph.Inputs {
		for d, extent := range p.Shape {
			v.varying = v.varying || (d > 0 && extent < 0)
		}
	}
	v.ties = ties(v.graph, v.Batches)
	v.refs.Store(1)
}

// tie says that two extents of the inputs must agree, because the model gives
// them one name (ONNX IR specification, "Static tensor shapes").
type tie struct{ input, dim, otherInput, otherDim int }

func ties(sig *model.Signature, batches bool) []tie {
	type at struct{ input, dim int }
	seen := map[string]at{}
	var found []tie
	for i, p := range sig.Inputs {
		for d, symbol := range p.Symbols {
			if symbol == "" || (d == 0 && batches) {
				continue // unnamed, or the rows, which are counted anyway
			}
			if first, ok := seen[symbol]; ok {
				found = append(found, tie{i, d, first.input, first.dim})
			} else {
				seen[symbol] = at{i, d}
			}
		}
	}
	return found
}

// Pace returns the measured pace of the version for work that is not urgent, the zero value
// while it is not loaded.
func (v *Version) Pace() batcher.Pace {
	if v.runtime.batcher == nil {
		return batcher.Pace{}
	}
	return v.runtime.batcher.Pace()
}

// Costs returns what was measured of the version's run times, see batcher.Costs;
// nothing while it is not loaded, and of a graph.
func (v *Version) Costs() (points []batcher.Point, spread float64) {
	if v.runtime.batcher == nil {
		return nil, 1
	}
	return v.runtime.batcher.Costs()
}

// acquire takes a reference for one request. It fails when the version was
// released for good in the meantime.
func (v *Version) acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives one reference back; the last one frees the model.
func (v *Version) release() {
	if v.refs.Add(-1) == 0 {
		if v.runtime.graph == nil {
			// Nobody is in the batcher any more: draining it only stops its timer.
			_ = v.runtime.batcher.Drain(context.Background())
			_ = v.runtime.session.Close()
		}
		close(v.runtime.closed)
	}
}

// retire gives the table's reference back and waits until the last request in
// progress has been answered and the model is freed, or ctx ends.
func (v *Version) retire(ctx context.Context) error {
	v.release()
	select {
	case <-v.runtime.closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var partLists = sync.Pool{New: func() any { return new([]*engine.Part) }}

// runBatch is the batcher's RunFunc. Where a run of several requests fails,
// each is run by itself, so that one bad request cannot fail its neighbours.
func (v *Version) runBatch(ctx context.Context, batch []*batcher.Task[*call]) error {
	list := partLists.Get().(*[]*engine.Part)
	defer func() {
		clear(*list)
		*list = (*list)[:0]
		partLists.Put(list)
	}()
	rows := 0
	for _, t := range batch {
		*list = append(*list, &t.Value.part)
		rows += t.Value.part.Rows
	}
	err := v.runOnce(ctx, *list, rows)
	if err == nil || len(batch) == 1 || ctx.Err() != nil {
		return err
	}
	v.runtime.metrics.isolated.Inc()
	for i, t := range batch {
		t.Err = v.runOnce(ctx, (*list)[i:i+1], t.Value.part.Rows)
	}
	return nil
}

func (v *Version) runOnce(ctx context.Context, parts []*engine.Part, rows int) error {
	start := time.Now()
	err := v.runtime.session.Run(ctx, parts)
	v.Stats.Executions.Add(1)
	v.Stats.ObserveBatch(rows, time.Since(start))
	v.runtime.metrics.rows.Observe(float64(rows))
	return err
}
