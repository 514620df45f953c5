package resilience

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// circuit is the model of a breaker: what it must do, in the plainest words.
type circuit struct {
	cfg              Breaker
	state            int // 0 closed, 1 half open, 2 open
	failures, total  int // of the window, while closed
	successes, tried int // while half open
	opened           time.Time
}

func (c *circuit) admits(now time.Time) bool {
	if c.state == 2 && now.Sub(c.opened) >= c.cfg.Delay {
		c.state, c.successes, c.tried = 1, 0, 0
	}
	return c.state == 0 || c.state == 1 && c.tried < c.cfg.Probes
}

func (c *circuit) record(now time.Time, ok bool) {
	switch c.state {
	case 0:
		c.total++
		if !ok {
			c.failures++
		}
		if c.total >= c.cfg.MinCalls && float64(c.failures)/float64(c.total) >= c.cfg.FailureRate {
			c.state, c.opened = 2, now
		}
	case 1:
		if !ok {
			c.state, c.opened = 2, now
		} else if c.successes++; c.successes == c.cfg.Probes {
			c.state, c.total, c.failures = 0, 0, 0
		}
	}
}

// Property 9: a breaker goes from closed to open, from open to half open, and
// from there to closed or open, when and only when its configuration says so,
// and nothing is called while it is open.
func TestProperty9CircuitBreaker(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { inBubble(t, rt, checkCircuit) })
}

// inBubble checks with a clock that only moves while everything waits; what rapid
// panics with leaves the bubble, so that it can shrink the failure.
func inBubble(t *testing.T, rt *rapid.T, check func(*rapid.T)) {
	var failure any
	synctest.Test(t, func(*testing.T) {
		defer func() { failure = recover() }()
		check(rt)
	})
	if failure != nil {
		panic(failure)
	}
}

func checkCircuit(rt *rapid.T) {
	cfg := Breaker{
		FailureRate: rapid.SampledFrom([]float64{.2, .5, 1}).Draw(rt, "rate"),
		MinCalls:    rapid.IntRange(1, 6).Draw(rt, "calls"),
		Window:      20 * time.Second,
		Delay:       time.Duration(rapid.IntRange(1, 9).Draw(rt, "delay")) * time.Second,
		Probes:      rapid.IntRange(1, 4).Draw(rt, "probes"),
	}
	registry := prometheus.NewRegistry()
	p, err := New("callee", Config{Breaker: cfg, Metrics: registry})
	if err != nil {
		rt.Fatal(err)
	}
	model := circuit{cfg: cfg}
	do := func(err error) {
		called := false
		before := model.state
		admitted := model.admits(time.Now())
		_, got := Do(context.Background(), p, func(context.Context) (int, error) { called = true; return 0, err })
		if called != admitted {
			rt.Fatalf("state %d: called is %t, want %t (%v)", before, called, admitted, got)
		}
		if !admitted {
			if fault.CodeOf(got) != "circuit_open" || fault.Of(got).RetryAfter != cfg.Delay-time.Since(model.opened) {
				rt.Fatalf("refused with %v, retry after %s", got, fault.Of(got).RetryAfter)
			}
			return
		}
		model.record(time.Now(), err == nil)
		if s := testutil.ToFloat64(p.metrics.state); int(s) != model.state {
			rt.Fatalf("the state is %v, want %d after %d", s, model.state, before)
		}
	}
	down := fault.New(fault.Unavailable, "down")
	rt.Repeat(map[string]func(*rapid.T){
		"succeed": func(*rapid.T) { do(nil) },
		"fail":    func(*rapid.T) { do(down) },
		"a second": func(rt *rapid.T) {
			if model.state == 0 {
				// The window slides in tenths; the model knows only all or nothing.
				time.Sleep(2 * cfg.Window)
				model.total, model.failures = 0, 0
				return
			}
			time.Sleep(time.Second)
		},
	})
}

// Only so many probes at a time; and what began before a change of state says
// nothing of what is after it.
func TestProbesAreCountedAndLateResultsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(Breaker{FailureRate: .5, MinCalls: 2, Window: time.Minute, Delay: time.Second, Probes: 2}, must(New("x", Config{})).metrics)
		enter := func() uint64 {
			t.Helper()
			term, _, ok := b.enter()
			if !ok {
				t.Fatal("refused")
			}
			return term
		}
		late := []uint64{enter(), enter(), enter(), enter()}
		b.leave(late[0], failed)
		b.leave(late[1], failed)
		if _, wait, ok := b.enter(); ok || wait != time.Second {
			t.Fatalf("open: %t, %s", ok, wait)
		}
		time.Sleep(time.Second)
		first, second := enter(), enter()
		if _, wait, ok := b.enter(); ok || wait != probePause {
			t.Fatalf("a third probe: %t, %s", ok, wait)
		}
		b.leave(late[2], succeeded)
		b.leave(late[3], failed)
		if !b.circuit.IsHalfOpen() {
			t.Fatal("late results counted")
		}
		b.leave(first, succeeded)
		b.leave(second, unknown)
		if !b.circuit.IsOpen() {
			t.Fatal("a probe without a result did not give its place back")
		}
		time.Sleep(time.Second)
		b.leave(enter(), succeeded)
		b.leave(enter(), succeeded)
		if !b.circuit.IsClosed() {
			t.Fatal("two good probes did not close it")
		}
	})
}

func must(p *Policy, err error) *Policy {
	if err != nil {
		panic(err)
	}
	return p
}

// What a caller did wrong, or that it left, does not speak against the callee.
func TestWhatOpensTheCircuit(t *testing.T) {
	for _, c := range []struct {
		err   error
		opens bool
	}{
		{nil, false},
		{fault.New(fault.Invalid, "wrong"), false},
		{fault.New(fault.NotFound, "none"), false},
		{fault.New(fault.Exhausted, "quota"), false},
		{context.Canceled, false},
		{fault.New(fault.Unavailable, "down"), true},
		{fault.New(fault.DeadlineExceeded, "slow"), true},
		{errors.New("defect"), true},
	} {
		p := must(New("x", Config{Breaker: Breaker{MinCalls: 2}}))
		for range 4 {
			ctx, cancel := context.WithCancel(t.Context())
			_, _ = Do(ctx, p, func(context.Context) (int, error) {
				if errors.Is(c.err, context.Canceled) {
					cancel()
				}
				return 0, c.err
			})
			cancel()
		}
		if got := p.breaker.circuit.IsOpen(); got != c.opens {
			t.Errorf("%v: open is %t", c.err, got)
		}
	}
}

func TestPanicsAreFailuresAndLeaveNothingTaken(t *testing.T) {
	p := must(New("x", Config{Concurrency: 1, Breaker: Breaker{MinCalls: 2}}))
	for range 2 {
		func() {
			defer func() { _ = recover() }()
			_, _ = Do(t.Context(), p, func(context.Context) (int, error) { panic("defect") })
			t.Fatal("the panic was swallowed")
		}()
	}
	if _, err := Do(t.Context(), p, func(context.Context) (int, error) { return 1, nil }); fault.CodeOf(err) != "circuit_open" {
		t.Errorf("after two panics: %v", err)
	}
}
