package job

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// orphaned reports whether the worker of a running prediction has died and the prediction has
// to be run again, instead of ending at once.
func (p *Prediction) orphaned(now time.Time, t Timing) bool {
	return p.Status == Running && !now.Before(p.Due) && !p.late(now) && p.used() < t.Attempts
}

// errOrphan is what the queue is told of a prediction whose worker has died while
// this process runs another such.
var errOrphan = fault.New(fault.Unavailable, "the worker of the prediction has died, perhaps of it: it waits for another such that this process runs").
	WithCode("worker_died").WithRetryAfter(time.Second)

// adopt begins an attempt at an orphan, one at a time in a process. Otherwise the
// predictions that a worker ran when it died would run together again and again, and the
// innocent ones use up their attempts along with the one that kills workers. Call free when
// the attempt has ended, or should have.
func (w *Worker) adopt(ctx context.Context, scope repo.Scope, id ID, version string) (p Prediction, begun bool, free func(), err error) {
	if !w.adopting.TryLock() {
		return p, false, func() {}, errOrphan
	}
	p, begun, err = w.start(ctx, scope, id, version, true)
	return p, begun, sync.OnceFunc(w.adopting.Unlock), err
}
