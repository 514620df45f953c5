package deliver

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/webhook"
)

// known are the endpoints of tenants as they were read last. A reading answers for
// all events that were there before it: after a burst of events one reading serves
// many, and no event is ever judged by endpoints that are older than itself.
type known struct {
	store *repo.Store

	mu      sync.Mutex
	tenants map[string]*reading
}

// reading is what was read of a tenant.
type reading struct {
	mu        sync.Mutex
	at        time.Time // before it was read
	endpoints []webhook.Endpoint
}

// maxKnown bounds the tenants that are remembered; beyond it all are forgotten.
const maxKnown = 10_000

// of returns the tenant's endpoints as they were at a time, or later. Clocks of
// several processes must agree to within the time that events take to get here.
func (k *known) of(ctx context.Context, tenant string, at time.Time) ([]webhook.Endpoint, error) {
	r := k.reading(tenant)
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Before(r.at) {
		return r.endpoints, nil
	}
	began := k.store.Now()
	var endpoints []webhook.Endpoint
	for e, err := range webhook.Endpoints.All(ctx, k.store.Read(repo.Scope{Tenant: tenant}), spec.Query[webhook.Endpoint]{}) {
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	r.at, r.endpoints = began, endpoints
	return endpoints, nil
}

func (k *known) reading(tenant string) *reading {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.tenants) >= maxKnown || k.tenants == nil {
		k.tenants = map[string]*reading{}
	}
	r := k.tenants[tenant]
	if r == nil {
		r = &reading{}
		k.tenants[tenant] = r
	}
	return r
}
