package resilience

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/platform/fault"
)

// Transport is an http.RoundTripper whose requests run under a policy; see
// NewHTTPClient.
type Transport struct {
	policy *Policy
	base   http.RoundTripper
	limit  int64
}

// NewTransport returns a transport over base. maxResponse bounds bodies in
// bytes; 0 means 1 MiB.
func NewTransport(p *Policy, base http.RoundTripper, maxResponse int64) *Transport {
	return &Transport{p, base, cmp.Or(maxResponse, 1<<20)}
}

// CloseIdleConnections closes what base keeps open; http.Client calls it.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends the request, maybe several times. The response's body is in
// memory; closing it is good style but nothing depends on it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close() // as a RoundTripper must, also where it was never sent
	}
	run := Do[*http.Response]
	if repeatable(req) {
		run = Retry[*http.Response]
	}
	sent := false
	resp, err := run(req.Context(), t.policy, func(ctx context.Context) (*http.Response, error) {
		again := req.Clone(ctx)
		if sent && req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, fault.Wrap(fault.Internal, err, "the request's body cannot be read again")
			}
			again.Body = body
		}
		sent = true
		return t.exchange(again)
	})
	if resp != nil {
		resp.Request = req // not the clone, whose context has ended
		return resp, nil   // an error beside it is that of its status
	}
	return nil, err
}

// exchange sends the request once and reads the answer.
func (t *Transport) exchange(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, t.unreachable(err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, t.limit+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return nil, t.unreachable(err)
	case int64(len(body)) > t.limit:
		return nil, fault.New(fault.TooLarge, "the answer of %s is longer than %d bytes", t.policy.name, t.limit).WithCode("response_too_large")
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, t.status(resp)
}

// status returns the failure that a response's status tells of.
func (t *Transport) status(resp *http.Response) error {
	kind := fault.Unavailable
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		kind = fault.Exhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
	case http.StatusGatewayTimeout:
		kind = fault.DeadlineExceeded
	default:
		return nil
	}
	return fault.New(kind, "%s answered with status %d", t.policy.name, resp.StatusCode).
		WithRetryAfter(RetryAfter(resp.Header, time.Now()))
}

// unreachable is the one translation of errors of connections.
func (t *Transport) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the policy classifies it
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err // a dialer's that refused the address
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.Wrap(fault.Internal, err, "the certificate of %s is not trusted", t.policy.name).WithCode("certificate_untrusted")
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return fault.Wrap(fault.DeadlineExceeded, err, "%s did not answer in time", t.policy.name).WithCode("call_timeout")
	}
	return fault.Wrap(fault.Unavailable, err, "%s cannot be reached", t.policy.name).WithCode("unreachable")
}

// repeatable says whether sending the request twice does no harm, and is possible.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
	default:
		if req.Header.Get("Idempotency-Key") == "" {
			return false
		}
	}
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// RetryAfter reads Retry-After (RFC 9110 §10.2.3): seconds or a date; 0 where
// there is none, or one that says nothing.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
