package export

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// keepAlive gives signs of life for the attempt until stop is called, whatever it does
// meanwhile: to count, to sort or to write may take longer than a lease. The context that
// it returns ends, with errLost as its cause, where the attempt is not wanted any more.
func (r *run) keepAlive(ctx context.Context) (_ context.Context, stop func()) {
	return pause.Beat(ctx, r.service.beat, func(ctx context.Context) error {
		_ = r.alive(ctx) // else the queue says it again, or ends the attempt
		_, err := r.service.update(ctx, r.scope, r.id, func(e *Export, now time.Time) error { return e.Extend(r.attempt, now) })
		if errors.Is(err, errLost) || errors.Is(err, repo.ErrNotFound) {
			return errLost
		}
		return nil
	})
}

// because says whether an attempt's error comes of its worker stopping, in order, which
// ends ctx, the one of the handler, and returns what else it comes of.
func because(ctx, work context.Context, err error) (stopped bool, why error) {
	switch {
	case errors.Is(context.Cause(work), errLost):
		return false, errLost
	case errors.Is(context.Cause(ctx), queue.ErrLeaseLost):
		return false, fault.Wrap(fault.Unavailable, err, "the queue has heard nothing of the worker for longer than a lease").WithCode("lease_lost")
	}
	return ctx.Err() != nil, err
}
