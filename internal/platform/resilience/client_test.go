package resilience

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/jwt"
)

var _ jwt.Client = (*http.Client)(nil)

func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, p *Policy, cfg HTTPConfig) *http.Client {
	t.Helper()
	c := NewHTTPClient(p, cfg)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func quick(cfg Config) Config {
	cfg = roomy(cfg)
	cfg.Retry.MinDelay = time.Microsecond
	return cfg
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// Requests are repeated where that is safe and possible, with their bodies; the
// caller gets the last response.
func TestRequestsAreRepeatedWhereTheyMayBe(t *testing.T) {
	var hits atomic.Int32
	var status atomic.Int32
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if b, _ := io.ReadAll(r.Body); string(b) != "body" {
			t.Errorf("attempt %d has body %q", hits.Load(), b)
		}
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "answer")
	})
	p := must(New("x", quick(Config{})))
	c := client(t, p, HTTPConfig{})
	for _, tc := range []struct {
		method string
		change func(*http.Request)
		status int
		hits   int32
	}{
		{"GET", nil, 503, 3}, {"PUT", nil, 502, 3}, {"DELETE", nil, 504, 3}, {"GET", nil, 429, 3},
		{"GET", nil, 500, 1}, {"GET", nil, 501, 1}, {"GET", nil, 404, 1}, {"GET", nil, 200, 1},
		{"POST", nil, 503, 1}, {"PATCH", nil, 503, 1},
		{"POST", func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }, 503, 3},
		{"PUT", func(r *http.Request) { r.GetBody = nil }, 503, 1},
	} {
		hits.Store(0)
		status.Store(int32(tc.status))
		req := request(t, tc.method, s.URL, "body")
		if tc.change != nil {
			tc.change(req)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: %v", tc.method, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if hits.Load() != tc.hits || resp.StatusCode != tc.status || string(body) != "answer" || err != nil || resp.Request != req {
			t.Errorf("%s answered %d after %d attempts with %q, %v", tc.method, resp.StatusCode, hits.Load(), body, err)
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-3": 0, "x": 0, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	var hits atomic.Int32
	s := server(t, func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
		}
	})
	began := time.Now()
	resp, err := client(t, must(New("x", quick(Config{}))), HTTPConfig{}).Do(request(t, "GET", s.URL, ""))
	if err != nil || resp.StatusCode != 200 || time.Since(began) < time.Second {
		t.Errorf("%v, %v after %s", resp, err, time.Since(began))
	}
}

func TestClientFaults(t *testing.T) {
	release := make(chan struct{})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-release
		case "/slow-body":
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-release
		case "/long":
			_, _ = io.WriteString(w, strings.Repeat("x", 11))
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
		}
	})
	t.Cleanup(func() { close(release) })
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	for _, tc := range []struct {
		url, code string
		kind      fault.Kind
	}{
		{s.URL + "/slow", "call_timeout", fault.DeadlineExceeded},
		{s.URL + "/slow-body", "call_timeout", fault.DeadlineExceeded},
		{s.URL + "/long", "response_too_large", fault.TooLarge},
		{s.URL + "/cut", "unreachable", fault.Unavailable},
		{gone.URL, "unreachable", fault.Unavailable},
		{untrusted.URL, "certificate_untrusted", fault.Internal},
	} {
		limit := 10 * time.Second
		if tc.code == "call_timeout" {
			limit = 100 * time.Millisecond
		}
		p := must(New("x", quick(Config{Timeout: limit, Retry: Retries{Attempts: 1}})))
		resp, err := client(t, p, HTTPConfig{MaxResponse: 10}).Do(request(t, "GET", tc.url, ""))
		if err == nil || !fault.Is(err, tc.kind) || fault.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, %v", tc.url, resp, err)
		}
	}
	refuses := HTTPConfig{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, fault.New(fault.PermissionDenied, "not there").WithCode("address_forbidden")
	}}
	if _, err := client(t, must(New("x", quick(Config{}))), refuses).Do(request(t, "GET", s.URL, "")); fault.CodeOf(err) != "address_forbidden" {
		t.Errorf("a refused address: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := client(t, must(New("x", Config{})), HTTPConfig{}).Do(request(t, "GET", s.URL+"/slow", "").WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAnOpenCircuitSendsNothing(t *testing.T) {
	var hits atomic.Int32
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { hits.Add(1); w.WriteHeader(503) })
	c := client(t, must(New("x", Config{Breaker: Breaker{MinCalls: 2}})), HTTPConfig{})
	for range 3 {
		_, _ = c.Do(request(t, "POST", s.URL, ""))
	}
	_, err := c.Do(request(t, "POST", s.URL, ""))
	if fault.CodeOf(err) != "circuit_open" || fault.Of(err).RetryAfter <= 0 || hits.Load() != 2 {
		t.Errorf("%v after %d requests", err, hits.Load())
	}
}

func TestTLSProxyAndRedirects(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/end" {
			http.Redirect(w, r, "/end", http.StatusFound)
		}
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	mine := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10}
	p := must(New("x", quick(Config{})))
	for redirects, want := range []int{302, 200} {
		c := client(t, p, HTTPConfig{TLS: mine, Redirects: redirects})
		resp, err := c.Do(request(t, "GET", s.URL, ""))
		if err != nil || resp.StatusCode != want || resp.TLS.Version < tls.VersionTLS12 {
			t.Errorf("%d redirects: %v, %v", redirects, resp, err)
		}
		base := c.Transport.(*Transport).base.(*http.Transport)
		if base.TLSClientConfig.MinVersion != tls.VersionTLS12 || base.Proxy != nil || base.MaxIdleConns == 0 || base.MaxConnsPerHost == 0 {
			t.Error("the transport is not bounded as it must be")
		}
	}
	if mine.MinVersion != tls.VersionTLS10 {
		t.Error("the caller's configuration was changed")
	}
}
