package resilience

import (
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// result is what a call tells of its callee.
type result uint8

const (
	succeeded result = iota
	failed
	unknown // the caller left before the callee showed what it can
)

// breaker is failsafe's circuit breaker, with calls bound to the state that let
// them in: what comes back after a change of state says nothing of the new one.
type breaker struct {
	mu      sync.Mutex
	circuit circuitbreaker.CircuitBreaker[struct{}]
	term    uint64 // counts the changes of state
}

func newBreaker(cfg Breaker, m *metrics) *breaker {
	b := &breaker{}
	// The listener runs within enter and leave, which hold b.mu.
	b.circuit = circuitbreaker.NewBuilder[struct{}]().
		WithFailureRateThreshold(cfg.FailureRate, uint(cfg.MinCalls), cfg.Window).
		WithDelay(cfg.Delay).
		WithSuccessThreshold(uint(cfg.Probes)).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			b.term++
			m.changed(e.NewState)
		}).Build()
	return b
}

// probePause is when to ask again while other callers' probes run.
const probePause = time.Second

// enter asks for leave to call. Who gets it must leave with the term. Who does
// not is told how long to wait.
func (b *breaker) enter() (term uint64, wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.circuit.TryAcquirePermit() {
		return b.term, 0, true
	}
	if wait = b.circuit.RemainingDelay(); wait <= 0 {
		wait = probePause
	}
	return 0, wait, false
}

// leave records the result of a call that has entered in the term.
func (b *breaker) leave(term uint64, r result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case term != b.term:
	case r == succeeded:
		b.circuit.RecordSuccess()
	case r == failed, b.circuit.IsHalfOpen():
		// A probe without a result gives its place back only as a failure.
		b.circuit.RecordFailure()
	}
}
