package job

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Reconciler announces again what is due, whatever became of the queue's messages.
type Reconciler struct {
	store *repo.Store
	cfg   Config
}

// NewReconciler returns the reconciler of a store.
func NewReconciler(store *repo.Store, cfg Config) *Reconciler {
	return &Reconciler{store, cfg.withDefaults()}
}

// batch is how many due predictions are read at a time.
const batch = 200

// Tenant announces again what is due of one tenant, and returns how much that was.
func (r *Reconciler) Tenant(ctx context.Context, tenant string) (int, error) {
	scope := repo.Scope{Tenant: tenant, Actor: "system"}
	n, remindedHeld := 0, 0
	for p, err := range Predictions.All(ctx, r.store.Read(scope), dueQuery(r.store.Now())) {
		if err != nil {
			return n, err
		}
		if p.Waits == held && !p.late(r.store.Now()) {
			if remindedHeld++; remindedHeld > window {
				continue // the next round's: others must not wait behind them
			}
		}
		if err := r.remind(ctx, scope, p.ID); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Settle looks after one prediction at once: whoever reads one that is overdue need not wait
// for the next round to be told that it has expired.
func (r *Reconciler) Settle(ctx context.Context, tenant string, id ID) error {
	return r.remind(ctx, repo.Scope{Tenant: tenant, Actor: "system"}, id)
}

// remind looks after one prediction. One that has changed meanwhile, or is gone, needs that
// no more.
func (r *Reconciler) remind(ctx context.Context, scope repo.Scope, id ID) error {
	err := r.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		overdue := false
		now, err := update(ctx, tx, id, func(p *Prediction) error { overdue = p.Remind(tx.Now(), r.cfg.Timing); return nil })
		if err != nil || !overdue {
			return err
		}
		return announce(tx, &now)
	})
	if fault.Is(err, fault.NotFound) || errors.Is(err, repo.ErrConflict) {
		return nil
	}
	return err
}

// dueQuery selects what is due, the longest overdue first.
func dueQuery(now time.Time) spec.Query[Prediction] {
	return spec.Query[Prediction]{Where: due.Lt(now), Order: due.Asc(), Limit: batch}
}
