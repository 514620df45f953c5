package job

import (
	"context"
	"sync"

	"sluice/internal/platform/repo"
)

// underWay has the attempts of a worker by their predictions, so that one that is cancelled
// in this process stops at once instead of when its lease is extended next.
type underWay struct {
	mu sync.Mutex
	of map[string]chan struct{}
}

// join returns a channel that tells of changes of a prediction until leave is called.
func (u *underWay) join(id ID) (changed <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of[string(id)] = c
	return c, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.of[string(id)] == c { // else another attempt has begun meanwhile
			delete(u.of, string(id))
		}
	}
}

// committed tells the attempts of what a changeset has changed.
func (u *underWay) committed(c *repo.Changeset) {
	for i := range c.Puts {
		if c.Puts[i].Kind != Predictions.Name {
			continue
		}
		u.mu.Lock()
		changed := u.of[c.Puts[i].ID]
		u.mu.Unlock()
		select {
		case changed <- struct{}{}:
		default: // nobody runs it, or was told already
		}
	}
}

// wanted reports whether an attempt is still wanted, also where that cannot be read.
func (w *Worker) wanted(ctx context.Context, scope repo.Scope, p *Prediction) bool {
	now, err := Predictions.Get(ctx, w.store.Read(scope), p.ID)
	return err != nil || now.current(p.Attempt) == nil && now.Status == Running
}
