package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
)

const (
	// checkTimeout bounds one readiness check.
	checkTimeout = 2 * time.Second
	// checkFresh is how long the outcome of a check counts, so that probes cannot
	// wear out what they ask after.
	checkFresh = time.Second
	// failureFresh is that of a failure: shorter, since what was not ready a moment
	// ago, such as a model that was loading, may be ready now, and work waits for it.
	failureFresh = 50 * time.Millisecond
)

// Health is the program's state as probes see it: not started, ready,
// not ready because of a check, or draining. The zero value is a program that
// has not started. It is safe for concurrent use.
type Health struct {
	started, draining atomic.Bool

	mu     sync.RWMutex
	checks []*check
}

// CheckResult is the outcome of one check; Reason is empty where it passed.
type CheckResult struct {
	Name    string  `json:"name"`
	Status  string  `json:"status"` // pass or fail
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // how long the check took when it last ran
}

// AddCheck adds a condition for being ready. The check must be quick, honour
// its context, and explain itself in its error without secrets. It runs at most
// once a second, twenty times while it fails, and never twice at a time.
func (h *Health) AddCheck(name string, run func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, &check{name: name, run: run})
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
		return CheckResult{Name: "startup", Status: "fail", Reason: "still starting"}
	}
	return CheckResult{Name: "startup", Status: "pass"}
}

// Ready returns the outcomes of all readiness checks, which run side by side
// where the last outcome is not fresh. It takes at most two seconds.
func (h *Health) Ready(ctx context.Context) (results []CheckResult, ready bool) {
	results = append(results, h.Startup())
	if h.Draining() {
		results = append(results, CheckResult{Name: "shutdown", Status: "fail", Reason: "shutting down"})
	}
	h.mu.RLock()
	checks := h.checks
	h.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	flights := make([]<-chan struct{}, len(checks))
	for i, c := range checks {
		flights[i] = c.refresh(ctx)
	}
	for i, c := range checks {
		results = append(results, c.await(ctx, flights[i]))
	}
	ready = true
	for _, r := range results {
		ready = ready && r.Status == "pass"
	}
	return results, ready
}

// check is one condition and its last outcome.
type check struct {
	name string
	run  func(context.Context) error

	mu     sync.Mutex
	last   CheckResult
	ended  time.Time     // of the last run; zero if there was none
	flight chan struct{} // closed at the end of the run that goes on; nil if none does
}

// refresh runs the check unless it runs or its outcome is fresh. It returns what
// is closed when there is an outcome.
func (c *check) refresh(ctx context.Context) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil {
		return c.flight
	}
	done := make(chan struct{})
	if c.fresh() {
		close(done)
		return done
	}
	c.flight = done
	// The outcome is for every probe, so it does not depend on the one that asked.
	go c.fly(context.WithoutCancel(ctx), done)
	return done
}

// fresh reports whether the last outcome still counts.
func (c *check) fresh() bool {
	limit := checkFresh
	if c.last.Status == "fail" {
		limit = failureFresh
	}
	return !c.ended.IsZero() && time.Since(c.ended) < limit
}

func (c *check) fly(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	err := c.run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = time.Now()
	c.last = CheckResult{Name: c.name, Status: "pass", Seconds: c.ended.Sub(began).Seconds()}
	if err != nil {
		c.last.Status, c.last.Reason = "fail", fault.Of(err).Message
	}
	c.flight = nil
	close(done)
}

// await returns the outcome once there is one. A check that does not answer fails.
func (c *check) await(ctx context.Context, done <-chan struct{}) CheckResult {
	select {
	case <-done:
	case <-ctx.Done():
		select {
		case <-done: // while a slower check was waited for
		default:
			return CheckResult{Name: c.name, Status: "fail", Reason: "the check did not answer in time"}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
