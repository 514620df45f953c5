package api

import (
	"context"
	"slices"

	"github.com/sourcegraph/conc/iter"

	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
)

// find asks for a prediction that the principal may read.
func (a *API) find(ctx context.Context, id job.ID) (*job.Prediction, error) {
	return a.settled(ctx, func() (*job.Prediction, error) { return cqrs.Ask(ctx, a.bus, job.Find{ID: id}) })
}

// settled asks for a prediction as it is. One that is overdue ends first: nobody is
// told that it waits when it will never be run.
func (a *API) settled(ctx context.Context, find func() (*job.Prediction, error)) (*job.Prediction, error) {
	p, err := find()
	if err != nil || a.cfg.Overdue == nil || !p.Overdue(a.store.Now()) {
		return p, err
	}
	_ = a.cfg.Overdue.Settle(ctx, p.Tenant, p.ID) // reads go on where nothing can be written, and show what there is
	return find()
}

// settlers is how many predictions of a list are settled at once.
const settlers = 16

// settleAll ends those of a list that are overdue, and returns whether there were any.
// What cannot be ended now is shown as the store has it.
func (a *API) settleAll(ctx context.Context, list []job.Prediction) bool {
	p, known := access.From(ctx)
	if a.cfg.Overdue == nil || !known {
		return false
	}
	now := a.store.Now()
	overdue := slices.DeleteFunc(slices.Clone(list), func(p job.Prediction) bool { return !p.Overdue(now) })
	iter.Iterator[job.Prediction]{MaxGoroutines: settlers}.ForEach(overdue, func(o *job.Prediction) { _ = a.cfg.Overdue.Settle(ctx, p.Tenant, o.ID) })
	return len(overdue) > 0
}
