// Package limit holds callers to quotas: per tenant and per key, in the manner
// of the generic cell rate algorithm (GCRA), told to clients in the fields
// RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers-11.
//
// Known limits: the backend in memory counts per process, so that a quota holds
// for each of several nodes. The port Backend is where a shared one goes; while
// it fails, requests are let through, for a limiter must not be the outage.
package limit

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/platform/fault"
)

// Policy allows Quota requests in a Window, all of them at once if they were
// saved up. The zero Policy limits nothing.
type Policy struct {
	Name   string // in the header fields: letters, digits and _
	Quota  int64
	Window time.Duration // in whole seconds
}

// Key is whose requests are counted together.
type Key struct{ Policy, Tenant, Subject string }

// Decision is a backend's answer to one request.
type Decision struct {
	Allowed   bool
	Remaining int64         // how many more are allowed at once
	Reset     time.Duration // until one more than Remaining is allowed
}

// Backend counts. Take counts one request against the key's policy, unless that
// exceeds it. An error says that it could not count.
type Backend interface {
	Take(ctx context.Context, key Key, p Policy) (Decision, error)
}

// Config holds the policies. Those without a quota are off.
type Config struct {
	Tenant Policy // of all requests of a tenant; default name "tenant"
	Key    Policy // of all requests with one credential; default name "key"
	// Jitter returns a number in [0, 1), by which clients that were refused
	// together are told to come back apart; default math/rand/v2.
	Jitter func() float64
	// Failed is told when the backend could not count; default nobody.
	Failed func(ctx context.Context, err error)
}

// Limits applies the policies.
type Limits struct {
	backend Backend
	cfg     Config
	policy  []string // the header value, made once
}

// New returns limits that count in the backend.
func New(backend Backend, cfg Config) (*Limits, error) {
	if cfg.Tenant.Name == "" {
		cfg.Tenant.Name = "tenant"
	}
	if cfg.Key.Name == "" {
		cfg.Key.Name = "key"
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Failed == nil {
		cfg.Failed = func(context.Context, error) {}
	}
	l := &Limits{backend: backend, cfg: cfg}
	var value []byte
	for _, p := range []Policy{cfg.Key, cfg.Tenant} {
		if p.Quota == 0 && p.Window == 0 {
			continue
		}
		if err := p.check(); err != nil {
			return nil, err
		}
		value = appendItem(value, p.Name, 'q', p.Quota, 'w', int64(p.Window/time.Second))
	}
	l.policy = []string{string(value)}
	return l, nil
}

func (p Policy) check() error {
	if p.Quota < 1 || p.Window < time.Second || p.Window%time.Second != 0 || p.Quota > int64(p.Window) {
		return fault.New(fault.Invalid, "rate limit %q: %d requests in %s: expected at least 1, at most one a nanosecond, in whole seconds", p.Name, p.Quota, p.Window)
	}
	for _, c := range []byte(p.Name) {
		if c < '0' || c > 'z' || c > '9' && c < 'A' || c > 'Z' && c < 'a' && c != '_' {
			return fault.New(fault.Invalid, "rate limit %q: the name may have letters, digits and _", p.Name)
		}
	}
	return nil
}

// Verdict is the outcome for one request, under each policy that is on.
type Verdict struct {
	limits  *Limits
	results [2]result
	n       int
	refused bool // the last result is the reason
}

type result struct {
	policy Policy
	Decision
}

// Take counts a request. The key's quota comes first, so that what one key
// sends beyond its own does not use up its tenant's.
func (l *Limits) Take(ctx context.Context, tenant, subject string) Verdict {
	v := Verdict{limits: l}
	v.take(ctx, l.cfg.Key, Key{l.cfg.Key.Name, tenant, subject})
	if !v.refused {
		v.take(ctx, l.cfg.Tenant, Key{l.cfg.Tenant.Name, tenant, ""})
	}
	return v
}

func (v *Verdict) take(ctx context.Context, p Policy, key Key) {
	if p.Quota == 0 {
		return
	}
	d, err := v.limits.backend.Take(ctx, key, p)
	if err != nil {
		v.limits.cfg.Failed(ctx, err)
		return
	}
	v.results[v.n] = result{p, d}
	v.n++
	v.refused = !d.Allowed
}

// Err returns nil, or fault.Exhausted with a time to wait: never less than until
// the quota allows a request, and up to half as long again, at least a second,
// by chance.
func (v Verdict) Err() error {
	if !v.refused {
		return nil
	}
	r := v.results[v.n-1]
	spread := max(r.Reset/2, time.Second)
	return fault.New(fault.Exhausted, "the quota %q of %d requests in %s is used up: wait as long as Retry-After says, or ask for a larger quota", r.policy.Name, r.policy.Quota, r.policy.Window).
		WithCode("rate_limited").WithRetryAfter(r.Reset + time.Duration(v.limits.cfg.Jitter()*float64(spread)))
}

// SetHeaders tells the client its quotas and what is left of them.
func (v Verdict) SetHeaders(h http.Header) {
	if v.n == 0 {
		return
	}
	var room [96]byte
	value := room[:0]
	for _, r := range v.results[:v.n] {
		value = appendItem(value, r.policy.Name, 'r', r.Remaining, 't', int64((r.Reset+time.Second-1)/time.Second))
	}
	h["Ratelimit-Policy"] = v.limits.policy
	h["Ratelimit"] = []string{string(value)}
}

// appendItem appends an item of a structured field's list (RFC 9651): a name and
// two integers.
func appendItem(b []byte, name string, k1 byte, v1 int64, k2 byte, v2 int64) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(append(append(b, '"'), name...), '"')
	b = strconv.AppendInt(append(b, ';', k1, '='), v1, 10)
	return strconv.AppendInt(append(b, ';', k2, '='), v2, 10)
}
