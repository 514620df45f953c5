// Package send posts webhooks over HTTPS: one request each, to addresses that
// package egress lets through, without redirects, proxies and cookies. What the
// receiver answers is dropped but for its status and Retry-After.
//
// Known limits: receivers are authenticated by their certificates alone; client
// certificates are not sent.
package send

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/resilience"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/egress"
)

// Config holds what a Sender may be given; the zero value has defaults.
type Config struct {
	Timeout time.Duration // of an attempt as a whole; default 20s, 30s at most
	Egress  egress.Config
	Roots   *x509.CertPool // who signs receivers' certificates; nil is the system's
	Now     func() time.Time
}

// The limits of what a receiver may answer.
const (
	maxAnswer = 4 << 10  // bytes that are read of a body, so that the connection can be used again
	maxHeader = 16 << 10 // bytes of headers
	maxWait   = 30 * time.Second
)

// Sender posts webhooks. It is safe for concurrent use.
type Sender struct {
	transport *http.Transport
	timeout   time.Duration
	now       func() time.Time
}

// New returns a sender.
func New(cfg Config) *Sender {
	s := &Sender{timeout: min(cmp.Or(cfg.Timeout, 20*time.Second), maxWait), now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.transport = &http.Transport{
		Proxy:               nil, // one from the environment would connect to anything
		DialContext:         egress.New(cfg.Egress).Dialer(s.timeout).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: s.timeout, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		MaxIdleConns: 256, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
	}
	return s
}

// Close closes what is kept open for further webhooks.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Message is a signed webhook.
type Message struct {
	URL       string
	ID        string
	Time      time.Time // of the attempt, as it was signed
	Signature string
	Body      []byte
}

// Send makes one attempt.
func (s *Sender) Send(ctx context.Context, m Message) webhook.Result {
	began := s.now()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r := s.exchange(ctx, m)
	r.Duration = s.now().Sub(began)
	return r
}

func (s *Sender) exchange(ctx context.Context, m Message) webhook.Result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil || webhook.CheckURL(m.URL) != nil {
		return webhook.Result{Class: webhook.Unsendable}
	}
	for key, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "Sluice-Webhooks/1",
		"Webhook-Id": m.ID, "Webhook-Timestamp": strconv.FormatInt(m.Time.Unix(), 10), "Webhook-Signature": m.Signature,
	} {
		req.Header.Set(key, value)
	}
	// Not by an http.Client, which would follow redirects.
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return webhook.Result{Class: classOf(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // what it says, and whether it ends, is of no account
	r := webhook.Result{Status: resp.StatusCode, Class: classOfStatus(resp.StatusCode)}
	if r.Class == webhook.Throttled {
		r.RetryAfter = resilience.RetryAfter(resp.Header, s.now())
	}
	return r
}

func classOfStatus(status int) webhook.Class {
	switch status {
	case http.StatusGone:
		return webhook.GoneForGood
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return webhook.Throttled
	}
	switch status / 100 {
	case 2:
		return webhook.None
	case 3:
		return webhook.Redirected
	}
	return webhook.BadStatus
}

// classOf is the one translation of errors of connections.
func classOf(err error) webhook.Class {
	switch fault.CodeOf(err) {
	case egress.CodeAddress, egress.CodePort:
		return webhook.Forbidden
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && !e.IsTimeout {
		return webhook.NoSuchHost
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return webhook.Timeout
	}
	if errors.Is(err, context.Canceled) {
		return webhook.Interrupted
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return webhook.Refused
	}
	if isTLS(err) {
		return webhook.TLS
	}
	return webhook.Broken
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err) // an alert that the other side has sent
	return ok && op.Op == "remote error"
}
