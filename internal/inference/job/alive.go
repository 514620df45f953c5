package job

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Why an attempt was stopped.
var (
	errStalled = fault.New(fault.Unavailable, "the model completed no run for too long").WithCode("attempt_stalled")
	errTooLong = fault.New(fault.Unavailable, "the attempt took too long").WithCode("attempt_too_long")
	errLease   = fault.New(fault.Unavailable, "the attempt was stopped, because its worker could not tell the queue that it lived").WithCode("lease_lost")
)

// why returns why an attempt was stopped, or its own error where it was not.
func why(run context.Context, err error) error {
	if cause := context.Cause(run); errors.Is(cause, errStalled) || errors.Is(cause, errTooLong) {
		return cause
	}
	if errors.Is(context.Cause(run), queue.ErrLeaseLost) {
		return errLease
	}
	return err
}

// keepAlive extends the lease of an attempt while it makes progress, and stops it once it is
// not wanted any more or its model hangs. It ends with ctx, or after it has stopped the
// attempt: even if that then runs on, its lease ends and another worker takes over.
func (w *Worker) keepAlive(ctx context.Context, scope repo.Scope, p *Prediction, d queue.Delivery, changed <-chan struct{}, stop context.CancelCauseFunc) {
	tick := time.NewTicker(w.cfg.Lease / 3)
	defer tick.Stop()
	done, since := w.predictor.Progress(p.Model, p.Tried), w.store.Now()
	for {
		select {
		case <-changed:
			if w.wanted(ctx, scope, p) {
				continue
			}
			stop(nil)
			return
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if n := w.predictor.Progress(p.Model, p.Tried); n != done {
			done, since = n, w.store.Now()
		}
		if w.store.Now().Sub(since) >= w.cfg.MaxStall {
			w.log.ErrorContext(ctx, "a model hangs: it completed no run while a prediction waited for it", "prediction", string(p.ID), "model", p.Model, "version", p.Tried, "stalled", w.cfg.MaxStall)
			stop(errStalled)
			return
		}
		if !w.extend(ctx, scope, p, d) {
			stop(nil)
			return
		}
	}
}

// extend extends the lease once, and returns whether the attempt is still wanted.
func (w *Worker) extend(ctx context.Context, scope repo.Scope, p *Prediction, d queue.Delivery) bool {
	wanted := true
	err := w.store.Do(ctx, scope, func(ctx context.Context, tx *repo.Tx) error {
		_, err := update(ctx, tx, p.ID, func(now *Prediction) (err error) {
			wanted, err = now.Extend(p.Attempt, tx.Now(), w.cfg.Timing)
			return err
		})
		return err
	})
	if err == nil {
		err = d.Extend(ctx)
	}
	if !wanted || errors.Is(err, errStale) || errors.Is(err, repo.ErrNotFound) {
		return false
	}
	if err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, "a running prediction could not give a sign of life", "prediction", string(p.ID), "error", err)
	}
	return true
}
