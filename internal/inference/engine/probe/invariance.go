// Package probe tries a model before it is trusted: whether it runs at all,
// first in a sandboxed child process, and whether a row's answer depends on
// the other rows of its batch.
package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/tensor"
)

// Report is what probing a model found.
type Report struct {
	// Invariant says that rows of different requests may share a run.
	Invariant bool `json:"invariant"`
	// Reason says why not, or how it was established.
	Reason string `json:"reason"`
}

const (
	// rows is how many rows the probe compares, where the model takes as many.
	rows = 4
	// manyRows is the largest batch that it runs.
	manyRows = 16
	// optionalTime is after how long it adds no trials to the essential ones.
	optionalTime = 200 * time.Millisecond
	// probeTime bounds it altogether. A model that needs longer for a few rows
	// is served, but its rows are never shared across requests.
	probeTime = 20 * time.Second
)

// extents stand in for all extents that may vary, one pass of trials each, so
// that all rows of a pass can share a run. Each pass has rows of its own.
var extents = [...]int64{6, 1, 6, 1, 6, 1, 6, 1}

// Invariance runs rows alone, together, in another order, and beside
// neighbours of every kind (padding, extreme values, NaN, infinities, odd
// strings), and looks for answers that change. It needs a model that batches.
func Invariance(ctx context.Context, s engine.Session, spec engine.Spec) Report {
	if !spec.Batches || spec.MaxRows < 2 {
		return Report{Reason: "the model takes one row at a time"}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	p := newProber(ctx, s, spec, 1)
	began := time.Now()
	for pass, extent := range extents {
		if pass > 0 && time.Since(began) > optionalTime {
			break
		}
		p.extent = extent
		if finding := p.pass(pass == 0, began.Add(optionalTime)); finding != "" {
			return Report{Reason: finding}
		}
		if ctx.Err() != nil {
			return Report{Reason: fmt.Sprintf("the model takes so long on synthetic rows that its batch invariance is not established: %v", ctx.Err())}
		}
	}
	return Report{Invariant: true, Reason: "rows answer alike alone, together, reordered, padded and beside hostile rows"}
}

// prober makes synthetic rows and runs them.
type prober struct {
	ctx      context.Context //nolint:containedctx // lives for one call of Invariance, Sweep or Warm
	session  engine.Session
	spec     engine.Spec
	rand     *rand.Rand
	extent   int64         // of dimensions that may vary
	ranges   []int64       // by input: integers of wide rows lie in [0, ranges[i])
	patience time.Duration // for a run that may take for ever, such as with a huge integer
}

func newProber(ctx context.Context, s engine.Session, spec engine.Spec, seed uint64) *prober {
	p := &prober{ctx: ctx, session: s, spec: spec, rand: rand.New(rand.NewPCG(seed, seed+1)), extent: extents[0], patience: minPatience}
	p.ranges = slices.Repeat([]int64{narrow}, len(spec.Signature.Inputs))
	return p
}

// minPatience is the least that p.patience may be.
const minPatience = 100 * time.Millisecond

// row is one synthetic row.
type row struct {
	*engine.Part
	kind  kind
	alone []tensor.Tensor // the answer that it gets alone, of an ordinary row
}

func (p *prober) row(k kind) *row { return &row{Part: p.part(k), kind: k} }

// copies returns n rows with r's data.
func (r *row) copies(n int) []*row {
	out := make([]*row, n)
	for i := range out {
		out[i] = &row{Part: &engine.Part{Rows: r.Rows, Inputs: r.Inputs}, kind: r.kind, alone: r.alone}
	}
	return out
}

// run runs the rows as one batch.
func (p *prober) run(ctx context.Context, batch ...*row) error {
	parts := make([]*engine.Part, len(batch))
	for i, r := range batch {
		r.Slab.Release()
		r.Slab, r.Outputs, r.Dims = nil, r.Outputs[:0], r.Dims[:0]
		parts[i] = r.Part
	}
	return p.session.Run(ctx, parts)
}

// try is run for rows on which the model may fail, or never end.
func (p *prober) try(batch ...*row) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	return p.run(ctx, batch...)
}

// ordinary returns n ordinary rows with the answers that they get alone.
func (p *prober) ordinary(n int) ([]*row, error) {
	batch := make([]*row, n)
	for i := range batch {
		r := p.row(ordinary)
		start := time.Now()
		if err := p.run(p.ctx, r); err != nil {
			return batch[:i], err
		}
		p.patience = max(p.patience, 20*time.Since(start))
		for _, t := range r.Outputs {
			t.Shape, t.Data = slices.Clone(t.Shape), slices.Clone(t.Data)
			r.alone = append(r.alone, t)
		}
		batch[i] = r
	}
	return batch, nil
}
