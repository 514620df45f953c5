package resilience

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

// Do runs f once under the policy. ctx ends for f with the policy's time limit.
//
// Errors are faults: f's own; an unclassified one of f's as fault.Internal; and
// those of the policy, fault.Unavailable "circuit_open" or "bulkhead_full" with
// the time to retry after, and fault.DeadlineExceeded "call_timeout". The
// value is f's, also beside an error.
func Do[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (T, error) {
	return call(ctx, p, 1, f)
}

// Retry is Do for a function that may run more than once, because it is
// idempotent: it runs until it succeeds, fails with a kind that would fail
// again, has had its attempts, or the policy's retry budget is used up; the
// result is that of the last attempt. Between attempts it waits a random time
// (exponential backoff with full jitter), but at least the error's RetryAfter.
// Where ctx would end first, it does not wait but returns.
func Retry[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (T, error) {
	return call(ctx, p, p.cfg.Retry.Attempts, f)
}

// Fallback is Retry with something to fall back on where the callee cannot be
// had: instead gets the error and returns what to use, or an error. It is not
// asked where the request itself was wrong, or the caller has gone.
func Fallback[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error), instead func(context.Context, error) (T, error)) (T, error) {
	v, err := Retry(ctx, p, f)
	if err == nil || !broken(err) && !fault.Is(err, fault.Exhausted) || ctx.Err() != nil {
		return v, err
	}
	p.metrics.fallbacks.Inc()
	return instead(ctx, err)
}

func call[T any](ctx context.Context, p *Policy, attempts int, f func(context.Context) (T, error)) (v T, err error) {
	p.budget.deposit()
	defer func() { p.metrics.called(err) }()
	for n := 1; ; n++ {
		var ran bool
		v, ran, err = attempt(ctx, p, f)
		if err == nil || !ran || n >= attempts || !fault.Of(err).Kind.Retryable() || ctx.Err() != nil {
			return v, err
		}
		delay := p.delay(n, fault.Of(err).RetryAfter)
		if delay < 0 || !inTime(ctx, delay) {
			return v, err
		}
		if !p.budget.withdraw() {
			p.metrics.rejected("retry_budget")
			return v, err
		}
		if !pause.For(ctx, delay) {
			return v, err
		}
		p.metrics.retries.Inc()
	}
}

// attempt runs f where bulkhead and breaker let it; ran says whether they did.
func attempt[T any](ctx context.Context, p *Policy, f func(context.Context) (T, error)) (v T, ran bool, err error) {
	if err := p.place(ctx); err != nil {
		return v, false, err
	}
	defer p.bulkhead.ReleasePermit()
	term, wait, ok := p.breaker.enter()
	if !ok {
		p.metrics.rejected("circuit_open")
		return v, false, fault.New(fault.Unavailable, "%s failed too often and is not called for now: try again later", p.name).
			WithCode("circuit_open").WithRetryAfter(wait)
	}
	result := failed // a panic is one
	defer func() { p.breaker.leave(term, result) }()

	within, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	v, err = f(within)
	switch {
	case err == nil:
		result = succeeded
		return v, true, nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && within.Err() != nil:
		err = fault.Wrap(fault.DeadlineExceeded, err, "%s did not answer within %s", p.name, p.cfg.Timeout).WithCode("call_timeout")
	default:
		err = classified(err)
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		result = unknown
	case !broken(err):
		result = succeeded
	}
	return v, true, err
}

// place waits for a place in the bulkhead.
func (p *Policy) place(ctx context.Context) error {
	err := p.bulkhead.AcquirePermitWithMaxWait(ctx, p.cfg.MaxWait)
	if errors.Is(err, bulkhead.ErrFull) {
		p.metrics.rejected("bulkhead_full")
		return fault.New(fault.Unavailable, "all %d calls to %s are taken: try again later", p.cfg.Concurrency, p.name).
			WithCode("bulkhead_full").WithRetryAfter(p.cfg.MaxWait)
	}
	return classified(err)
}

// broken says whether the error tells that the callee does not work. Errors
// that tell of the request, a quota included, prove that it does.
func broken(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Internal, fault.Unavailable, fault.DeadlineExceeded:
		return true
	}
	return false
}

// classified returns err as it is if there is a fault in it, else as one.
func classified(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Of(err)
}

// delay returns how long to wait after the n-th attempt, negative where the
// callee wants a longer pause than the policy waits.
func (p *Policy) delay(n int, after time.Duration) time.Duration {
	r := p.cfg.Retry
	if after > r.MaxDelay {
		return -1
	}
	bound := min(float64(r.MinDelay)*math.Pow(2, float64(n-1)), float64(r.MaxDelay))
	return max(time.Duration(bound*p.cfg.Random()), after)
}

func inTime(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > delay
}
