package idempotency

import (
	"context"
	"sync"
	"time"
)

// Memory is a Store in this process: for tests, and for servers that may forget.
// It does not bound how much it keeps within the time that claims ask for.
type Memory struct {
	now func() time.Time

	mu    sync.Mutex
	held  map[Key]kept
	swept time.Time
}

type kept struct {
	Reservation
	until time.Time
}

// NewMemory returns an empty store, by the clock now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, held: map[Key]kept{}, swept: now()}
}

// Reserve claims the key.
func (m *Memory) Reserve(_ context.Context, key Key, c Claim) (Reservation, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.sweep(now)
	k, ok := m.held[key]
	switch {
	case !ok || !now.Before(k.until):
		k = kept{Reservation{Fingerprint: c.Fingerprint, OperationID: c.OperationID}, now.Add(c.Keep)}
	case k.Answer != nil || now.Before(k.LeaseEnds) || k.Fingerprint != c.Fingerprint:
		return k.Reservation, false, nil
	}
	k.Attempt++
	k.LeaseEnds = now.Add(c.Lease)
	m.held[key] = k
	return k.Reservation, true, nil
}

// Complete stores the answer.
func (m *Memory) Complete(_ context.Context, key Key, attempt int, a Answer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.held[key]; ok && k.Attempt == attempt && k.Answer == nil {
		k.Answer, k.LeaseEnds = &a, time.Time{}
		m.held[key] = k
	}
	return nil
}

// Release gives the key up.
func (m *Memory) Release(_ context.Context, key Key, attempt int, forget bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.held[key]
	switch {
	case !ok || k.Attempt != attempt || k.Answer != nil:
	case forget:
		delete(m.held, key)
	default:
		k.LeaseEnds = m.now()
		m.held[key] = k
	}
	return nil
}

// sweep forgets what is too old, once a minute at most.
func (m *Memory) sweep(now time.Time) {
	if now.Sub(m.swept) < time.Minute {
		return
	}
	m.swept = now
	for key, k := range m.held {
		if !now.Before(k.until) {
			delete(m.held, key)
		}
	}
}
