// Package resilience guards the calls that leave the process: each kind of call
// has a Policy, which bounds its time and number, repeats what may be repeated,
// and stops calling what is broken.
//
//	policy, err := resilience.New("issuer", resilience.Config{Timeout: 5 * time.Second})
//	keys, err := resilience.Retry(ctx, policy, fetchKeys) // fetching twice does no harm
//
// A call waits for a place in the bulkhead, asks the circuit breaker, and runs
// with the time limit. Waiting between attempts holds no place. The breaker and
// the bulkhead are failsafe-go's. The loop of attempts is our own, because
// failsafe's drops a result that came after the caller's time was over, waits
// beyond the caller's deadline, and budgets what runs at once, not what was
// called.
//
// Known limits: a policy is one process's view, nothing is shared between nodes.
// A function that ignores its context is waited for. There is no hedging: it
// doubles the load where a late answer usually means too much load.
package resilience

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// Config says how calls are guarded. Zero values mean the default.
type Config struct {
	// Timeout bounds one attempt, the waiting for a place aside; 0 means 10s.
	// The caller's own deadline counts, too, over all attempts.
	Timeout time.Duration
	// Concurrency is how many attempts run at once; 0 means 64.
	Concurrency int
	// MaxWait is how long an attempt waits for a place; 0 means 1s.
	MaxWait time.Duration
	Retry   Retries
	Breaker Breaker
	// Metrics gets the policy's metrics, labelled with its name; it may be nil.
	Metrics prometheus.Registerer
	// Random returns a number in [0, 1) for the jitter; nil means math/rand/v2's.
	Random func() float64
}

// Retries says how calls are repeated that may be.
type Retries struct {
	Attempts int           // the first included; 0 means 3
	MinDelay time.Duration // upper bound of the first delay, doubled with each further one; 0 means 100ms
	// MaxDelay is the upper bound of all delays; 0 means 5s. Where the callee
	// asks for a longer one, the caller is told instead of being kept waiting.
	MaxDelay time.Duration
	// Budget is the share of calls that may be retries, so that an outage is not
	// answered with a multiple of the load; 0 means 0.1.
	Budget float64
	// Reserve is how many retries beyond the budget are saved up at most, and at
	// the start; 0 means 10.
	Reserve int
}

// Breaker says when calls stop. It opens when the share FailureRate of at least
// MinCalls calls within Window has failed, lets nothing through for Delay, then
// Probes calls at a time, and closes after that many have succeeded without a
// failure between them.
//
// What fails a call: internal errors, unavailability and time that ran out, the
// caller's too, so that a callee which hangs is noticed. A policy must not be
// driven with deadlines that a client chooses.
type Breaker struct {
	FailureRate float64       // 0 means 0.5
	MinCalls    int           // 0 means 20
	Window      time.Duration // 0 means 30s
	Delay       time.Duration // 0 means 10s
	Probes      int           // 0 means 2
}

// Policy guards the calls to one callee. It is safe for concurrent use.
type Policy struct {
	cfg      Config
	name     string
	bulkhead bulkhead.Bulkhead[struct{}]
	breaker  *breaker
	budget   *budget
	metrics  *metrics
}

// New returns the policy with that name, which is shown in messages and labels
// metrics: one name for each callee, never one for each call. fault.Invalid: the
// configuration contradicts itself.
func New(name string, cfg Config) (*Policy, error) {
	cfg.complete()
	if err := cfg.validate(name); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics, name)
	if err != nil {
		return nil, err
	}
	return &Policy{
		cfg:      cfg,
		name:     name,
		bulkhead: bulkhead.New[struct{}](uint(cfg.Concurrency)),
		breaker:  newBreaker(cfg.Breaker, m),
		budget:   newBudget(cfg.Retry.Budget, cfg.Retry.Reserve),
		metrics:  m,
	}, nil
}

func (c *Config) complete() {
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Concurrency = cmp.Or(c.Concurrency, 64)
	c.MaxWait = cmp.Or(c.MaxWait, time.Second)
	r := &c.Retry
	r.Attempts = cmp.Or(r.Attempts, 3)
	r.MinDelay = cmp.Or(r.MinDelay, 100*time.Millisecond)
	r.MaxDelay = cmp.Or(r.MaxDelay, max(5*time.Second, r.MinDelay))
	r.Budget = cmp.Or(r.Budget, 0.1)
	r.Reserve = cmp.Or(r.Reserve, 10)
	b := &c.Breaker
	b.FailureRate = cmp.Or(b.FailureRate, 0.5)
	b.MinCalls = cmp.Or(b.MinCalls, 20)
	b.Window = cmp.Or(b.Window, 30*time.Second)
	b.Delay = cmp.Or(b.Delay, 10*time.Second)
	b.Probes = cmp.Or(b.Probes, 2)
	if c.Random == nil {
		c.Random = rand.Float64
	}
}

func (c *Config) validate(name string) error {
	r, b := c.Retry, c.Breaker
	switch {
	case name == "":
		return invalid("a policy needs a name")
	case c.Timeout < 0 || c.Concurrency < 0 || c.MaxWait < 0:
		return invalid("policy %s: Timeout, Concurrency and MaxWait must not be negative", name)
	case r.Attempts < 0 || r.MinDelay < 0 || r.MaxDelay < r.MinDelay:
		return invalid("policy %s: expected Attempts ≥ 1 and 0 < MinDelay (%s) ≤ MaxDelay (%s)", name, r.MinDelay, r.MaxDelay)
	case !(r.Budget > 0 && r.Budget <= 1) || r.Reserve < 0:
		return invalid("policy %s: expected 0 < Budget ≤ 1 and Reserve ≥ 1", name)
	case !(b.FailureRate > 0 && b.FailureRate <= 1):
		return invalid("policy %s: expected 0 < FailureRate ≤ 1", name)
	case b.MinCalls < 0 || b.Window < 0 || b.Delay < 0 || b.Probes < 0:
		return invalid("policy %s: MinCalls, Window, Delay and Probes must not be negative", name)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode("resilience_config_invalid")
}
