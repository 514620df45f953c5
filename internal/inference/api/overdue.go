package api

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/sourcegraph/conc/iter"

	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
)

// find asks for a prediction that the principal may read.
func (a *API) find(ctx context.Context, id job.ID) (*job.Prediction, error) {
	return a.settled(ctx, func() (*job.Prediction, error) { return cqrs.Ask(ctx, a.bus, job.Find{ID: id}) })
}

// settled finds a prediction, and first ends it if it is overdue: nobody should be told
// that it waits when it will never be run.
func (a *API) settled(ctx context.Context, find func() (*job.Prediction, error)) (*job.Prediction, error) {
	p, err := find()
	if err != nil || a.cfg.Overdue == nil || !p.Overdue(a.store.Now()) {
		return p, err
	}
	_ = a.cfg.Overdue.Settle(ctx, p.Tenant, p.ID) // reads go on where nothing can be written, and show what there is
	return find()
}

const (
	settlers  = 16 // predictions of a page that are settled at once
	settlings = 8  // pages that are settled for one answer
)

// settleAll ends those of a page that are overdue, and returns whether the page is to be
// read again. What cannot be ended now is shown as the store has it.
func (a *API) settleAll(ctx context.Context, list []job.Prediction) bool {
	p, known := access.From(ctx)
	if a.cfg.Overdue == nil || !known {
		return false
	}
	now, settled := a.store.Now(), atomic.Bool{}
	overdue := slices.DeleteFunc(slices.Clone(list), func(p job.Prediction) bool { return !p.Overdue(now) })
	iter.Iterator[job.Prediction]{MaxGoroutines: settlers}.ForEach(overdue, func(o *job.Prediction) {
		if a.cfg.Overdue.Settle(ctx, p.Tenant, o.ID) == nil {
			settled.Store(true)
		}
	})
	return settled.Load()
}
