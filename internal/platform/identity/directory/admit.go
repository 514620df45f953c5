package directory

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Tenants of tokens are looked up with every request, so that they are
// remembered for as long as API keys are.
const (
	admitTime  = 2 * time.Second
	maxTenants = 10_000
)

// admitted are tenants that were let in, until they are looked up again.
type admitted struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// Admit refuses tenants that are not there or suspended, as fault.Unauthenticated
// with the code "tenant_unknown". It is for credentials of others: API keys are
// only found where their tenant is active.
func (d *Directory) Admit(ctx context.Context, id string) error {
	now := d.store.Now()
	if d.admitted.has(id, now) {
		return nil
	}
	err := d.active(ctx, id)
	switch {
	case err == nil:
		d.admitted.add(id, now.Add(admitTime))
	case errors.Is(err, repo.ErrNotFound):
		return errTenant
	}
	return err
}

var errTenant error = fault.New(fault.Unauthenticated, "the tenant of the credential does not exist here, or is suspended").WithCode("tenant_unknown")

func (a *admitted) has(id string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.until[id])
}

func (a *admitted) add(id string, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil || len(a.until) >= maxTenants {
		a.until = map[string]time.Time{}
	}
	a.until[id] = until
}

// forget has the tenants that this process changes looked up at once.
func (a *admitted) forget(c *repo.Changeset) {
	for _, p := range c.Puts {
		if p.Kind == Tenants.Name {
			a.mu.Lock()
			delete(a.until, p.ID)
			a.mu.Unlock()
		}
	}
}
