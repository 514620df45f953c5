package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
)

// checkTimeout bounds one readiness check.
const checkTimeout = 2 * time.Second

// Health is the program's state as probes see it: not started, ready,
// not ready because of a check, or draining. The zero value is a program that
// has not started. It is safe for concurrent use.
type Health struct {
	started, draining atomic.Bool

	mu     sync.RWMutex
	checks []check
}

type check struct {
	name string
	run  func(context.Context) error
}

// CheckResult is the outcome of one check; Reason is empty where it passed.
type CheckResult struct {
	Name   string `json:"name"`
	Status string `json:"status"` // pass or fail
	Reason string `json:"reason,omitempty"`
}

// AddCheck adds a condition for being ready. The check must be quick, honour
// its context, and explain itself in its error without secrets.
func (h *Health) AddCheck(name string, run func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, run})
}

// SetStarted records that every component has started.
func (h *Health) SetStarted() { h.started.Store(true) }

// SetDraining records that the shutdown has begun; there is no way back.
func (h *Health) SetDraining() { h.draining.Store(true) }

// Draining reports whether the shutdown has begun.
func (h *Health) Draining() bool { return h.draining.Load() }

// Startup reports whether the program has started.
func (h *Health) Startup() CheckResult {
	if !h.started.Load() {
		return CheckResult{"startup", "fail", "still starting"}
	}
	return CheckResult{"startup", "pass", ""}
}

// Ready runs every readiness check and returns the outcomes.
func (h *Health) Ready(ctx context.Context) (results []CheckResult, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results = append(results, h.Startup())
	if h.Draining() {
		results = append(results, CheckResult{"shutdown", "fail", "shutting down"})
	}
	h.mu.RLock()
	checks := h.checks
	h.mu.RUnlock()
	for _, c := range checks {
		r := CheckResult{c.name, "pass", ""}
		if err := c.run(ctx); err != nil {
			r.Status, r.Reason = "fail", fault.Of(err).Message
		}
		results = append(results, r)
	}
	ready = true
	for _, r := range results {
		ready = ready && r.Status == "pass"
	}
	return results, ready
}
