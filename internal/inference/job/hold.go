package job

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Postpone puts a prediction off that this worker, and perhaps no other, can run: for longer,
// the longer it has been held already. One that was held for too long fails as a dead
// letter. No attempt is used up.
func (p *Prediction) Postpone(why Failure, now time.Time, t Timing) {
	switch {
	case p.Status.Final(), p.Status != Queued && now.Before(p.Due):
		return // a worker is at it
	case p.Status == Cancelling: // its worker has died
		p.end(Cancelled, now, t)
		return
	case p.Status == Running: // the same
		p.Worker = ""
		p.move(Queued)
	}
	if p.Held.IsZero() {
		p.Held = now
	}
	since := now.Sub(p.Held)
	switch {
	case p.late(now):
		p.end(Expired, now, t)
	case since >= t.Hold:
		p.Failure = &why
		p.end(Failed, now, t)
	default:
		p.Waits, p.Due = held, p.within(now.Add(min(max(since, t.Notice/4), t.Notice)))
	}
}

// unavailable is why a prediction is held whose model this worker lacks.
var unavailable = Failure{"model_unavailable", "no worker serves this version of the model any more", true}

// circulations is how often a message is handed to another worker, within some
// ten seconds, before its prediction is put off in the store.
const circulations = 8

// pass leaves a prediction to a worker that has its model. If none is found soon, the
// prediction is postponed, and the reconciler announces it again.
func (w *Worker) pass(ctx context.Context, scope repo.Scope, id ID, d queue.Delivery, cause error) error {
	if d.Attempt < circulations {
		return fault.Wrap(fault.Unavailable, cause, "this worker cannot run the prediction; another may").WithCode(unavailable.Code)
	}
	return w.postpone(ctx, scope, id, unavailable)
}

func (w *Worker) postpone(ctx context.Context, scope repo.Scope, id ID, why Failure) error {
	_, err := w.take(ctx, scope, id, func(p *Prediction, now time.Time) error { p.Postpone(why, now, w.cfg.Timing); return nil })
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	return err
}
