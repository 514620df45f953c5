package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// trial is a batch in which every row that can be judged must answer as it
// does without the others.
type trial struct {
	name  string
	batch []*row
}

// pass makes rows and runs every trial on them, the optional ones only until
// the given time. It returns a finding against the model, or "".
func (p *prober) pass(first bool, until time.Time) string {
	n := min(rows, p.spec.MaxRows)
	o, err := p.ordinary(n)
	switch {
	case err != nil && first:
		return fmt.Sprintf("the model fails on synthetic rows, so its batch invariance is not established: %v", err)
	case err != nil:
		return p.onlyTogether(n, err)
	case first:
		p.widen()
	}
	essential, optional := p.trials(o)
	for i, t := range slices.Concat(essential, optional) {
		if p.ctx.Err() != nil || i >= len(essential) && time.Now().After(until) {
			return ""
		}
		if finding := p.judge(t); finding != "" {
			return finding
		}
	}
	return ""
}

// trials returns the trials of a pass, by what they are likely to find. o are
// its ordinary rows.
func (p *prober) trials(o []*row) (essential, optional []trial) {
	w := p.row(wide)
	// between puts a neighbour in the midst, or first where only two rows fit.
	between := func(k kind) []*row {
		batch := []*row{o[1], p.row(k), o[0]}
		return batch[max(3-len(o), 0):]
	}
	essential = []trial{
		{"together with others", o},
		{"in another order", reversed(o)},
		{"beside extreme values", []*row{w, p.row(extreme)}},
		{"beside extreme values", between(extreme)},
		{"beside hostile rows", between(hostile)},
		{"beside NaN", between(notNumber)},
	}
	large := []*row{p.row(large), p.row(wide), p.row(extreme), p.row(small)}
	optional = []trial{
		{"beside unlike values", large[:len(o)]},
		{"beside extreme values", []*row{p.row(extreme), p.row(wide)}},
		{"beside padding", []*row{o[0], p.row(padding)}},
		{"beside copies of itself", o[0].copies(len(o))},
		{"in a large batch", p.many(o)},
	}
	return essential, optional
}

// many returns the largest batch, of copies of the rows.
func (p *prober) many(o []*row) []*row {
	var batch []*row
	for i := range min(manyRows, p.spec.MaxRows) {
		batch = append(batch, o[i%len(o)].copies(1)...)
	}
	return batch
}

// judge runs a trial and returns what it says against the model, or "".
func (p *prober) judge(t trial) string {
	try := p.try
	if !slices.ContainsFunc(t.batch, func(r *row) bool { return r.kind != ordinary }) {
		try = func(batch ...*row) error { return p.run(p.ctx, batch...) } // these must not be passed over
	}
	if err := try(t.batch...); err != nil {
		// The model may refuse some rows (an index out of range): a run that
		// fails is repeated request by request, so that is no harm.
		if !errors.Is(err, context.DeadlineExceeded) && p.allRunAlone(t.batch) {
			return fmt.Sprintf("rows that run alone fail %s: %v", t.name, err)
		}
		return ""
	}
	for i, r := range t.batch {
		if diff := p.change(r, i, len(t.batch)); diff != "" {
			return fmt.Sprintf("a row's answer changes when it runs %s: %s", t.name, diff)
		}
	}
	return ""
}

// change says how the answer of r, place i of a batch of n that has run, is
// unlike the one it gets without its neighbours; "" if it is like it, or if r
// says nothing.
//
// An ordinary row is compared with itself alone. Large values make a model's
// arithmetic so inexact that another order of summation, which a batch of
// another size may well have, can change an answer beyond any tolerance. Rows
// that have them are compared with a copy in the same place of a batch of
// copies, where every sum is the same.
func (p *prober) change(r *row, i, n int) string {
	switch r.kind {
	case ordinary:
		return compare(r.alone, r.Outputs, "alone")
	case wide, large:
		among := r.copies(n)
		if p.try(among...) == nil {
			return compare(among[i].Outputs, r.Outputs, "beside its like")
		}
	}
	return ""
}

func (p *prober) allRunAlone(batch []*row) bool {
	for _, r := range batch {
		if p.try(r.copies(1)...) != nil {
			return false
		}
	}
	return true
}

// onlyTogether returns a finding where n rows run although the first of them
// alone fails with err.
func (p *prober) onlyTogether(n int, err error) string {
	if p.try(p.batch(n)...) == nil && p.ctx.Err() == nil {
		return fmt.Sprintf("rows that run together fail alone: %v", err)
	}
	return ""
}

func reversed[T any](s []T) []T {
	r := slices.Clone(s)
	slices.Reverse(r)
	return r
}
