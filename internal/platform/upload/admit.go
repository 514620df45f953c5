package upload

import (
	"context"
	"sync"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// writers counts the requests that append now, by tenants.
type writers struct {
	mu    sync.Mutex
	count map[string]int
}

// enter adds a request of the tenant, unless it has so many.
func (w *writers) enter(tenant string, limit int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count[tenant] >= limit {
		return false
	}
	if w.count == nil {
		w.count = make(map[string]int)
	}
	w.count[tenant]++
	return true
}

func (w *writers) leave(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count[tenant]--; w.count[tenant] == 0 {
		delete(w.count, tenant)
	}
}

// tenantOf returns the caller's tenant, and none where the bus will refuse.
func tenantOf(ctx context.Context) string {
	if p, _ := access.From(ctx); p != nil {
		return p.Tenant
	}
	return ""
}

// admit lets a request of a tenant append, or put a part: one of few, with the
// memory that it needs, which it holds until it leaves.
func (s *Service) admit(tenant string) (leave func(), err error) {
	if !s.writers.enter(tenant, s.cfg.MaxAppends) {
		return nil, fault.New(fault.Exhausted, "%d requests of the tenant append to uploads already, as many as may: send this one after them", s.cfg.MaxAppends).
			WithCode("upload_appends").WithRetryAfter(time.Second)
	}
	memory := s.cfg.Memory.Account()
	if err := memory.Acquire(2 * pieceSize); err != nil {
		s.writers.leave(tenant)
		return nil, err
	}
	return func() { memory.Release(); s.writers.leave(tenant) }, nil
}
