// Package probe tries a model before it is trusted: whether it runs at all,
// first in a sandboxed child process, and whether a row's answer depends on
// the other rows of its batch.
package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

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

// rows is how many rows the probe compares, where the model takes as many.
const rows = 4

// Invariance runs rows alone, together, in reverse order, beside padding and
// beside hostile neighbours (NaN, infinities, extreme integers), and compares
// every answer with the one given alone. It needs a model that batches.
func Invariance(ctx context.Context, s engine.Session, spec engine.Spec) Report {
	if !spec.Batches || spec.MaxRows < 2 {
		return Report{Reason: "the model takes one row at a time"}
	}
	p := prober{ctx: ctx, session: s, spec: spec, rand: rand.New(rand.NewPCG(1, 2))}
	n := min(rows, spec.MaxRows)
	parts := make([]*engine.Part, n)
	for i := range parts {
		parts[i] = p.part(random)
	}
	alone, err := p.alone(parts)
	if err != nil {
		return Report{Reason: fmt.Sprintf("the model fails on synthetic rows, so its batch invariance is not established: %v", err)}
	}
	for _, trial := range []struct {
		name    string
		batch   []*engine.Part
		row     []int // which row of parts each of the batch is; -1: a neighbour
		mayFail bool
	}{
		{name: "together with others", batch: parts, row: counting(n)},
		{name: "in another order", batch: reversed(parts), row: reversed(counting(n))},
		{name: "beside padding", batch: []*engine.Part{parts[0], p.part(padding)}, row: []int{0, -1}},
		// Extreme integers may be refused by the model (an index out of range);
		// a run that fails is repeated request by request, so that is no harm.
		{name: "beside hostile rows", batch: []*engine.Part{p.part(hostile), parts[0]}, row: []int{-1, 0}, mayFail: true},
	} {
		if err := p.run(trial.batch); err != nil {
			if trial.mayFail {
				continue
			}
			return Report{Reason: fmt.Sprintf("rows that run alone fail %s: %v", trial.name, err)}
		}
		for i, row := range trial.row {
			if row < 0 {
				continue
			}
			if diff := compare(alone[row], trial.batch[i].Outputs); diff != "" {
				return Report{Reason: fmt.Sprintf("a row's answer changes when it runs %s: %s", trial.name, diff)}
			}
		}
	}
	return Report{Invariant: true, Reason: "rows answer alike alone, together, reordered, padded and beside hostile rows"}
}

type prober struct {
	ctx     context.Context //nolint:containedctx // lives for one call of Invariance
	session engine.Session
	spec    engine.Spec
	rand    *rand.Rand
}

func (p *prober) run(batch []*engine.Part) error {
	for _, part := range batch {
		part.Slab.Release()
		part.Slab, part.Outputs, part.Dims = nil, part.Outputs[:0], part.Dims[:0]
	}
	return p.session.Run(p.ctx, batch)
}

// alone runs each part by itself and returns copies of the outputs.
func (p *prober) alone(parts []*engine.Part) ([][]tensor.Tensor, error) {
	var answers [][]tensor.Tensor
	for _, part := range parts {
		if err := p.run([]*engine.Part{part}); err != nil {
			return nil, err
		}
		var copies []tensor.Tensor
		for _, t := range part.Outputs {
			t.Shape, t.Data = slices.Clone(t.Shape), slices.Clone(t.Data)
			copies = append(copies, t)
		}
		answers = append(answers, copies)
	}
	return answers, nil
}

func counting(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func reversed[T any](s []T) []T {
	r := slices.Clone(s)
	slices.Reverse(r)
	return r
}
