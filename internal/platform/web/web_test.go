package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

// net/http lets a connection that a client has left while sending go after half a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func testConfig() Config {
	return Config{
		Name: "http", Addr: "127.0.0.1:0",
		MaxBody: 1 << 20, MaxHeader: 8 << 10, MaxConnections: 100, MaxInFlight: 100,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second,
		LoopbackOnly: true, H2C: true,
	}
}

// bed is a running server, its log and its metrics.
type bed struct {
	*Server
	t       *testing.T
	log     *syncBuffer
	metrics *prometheus.Registry
	client  *http.Client
	cancel  context.CancelFunc // ends Run
	done    chan struct{}      // Run has returned
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs a server of the routes until the test ends.
func start(t *testing.T, change func(*Config), routes func(*echo.Echo)) *bed {
	t.Helper()
	b := &bed{t: t, log: &syncBuffer{}, metrics: prometheus.NewRegistry(), done: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 20 * time.Second}}
	log, err := telemetry.NewLogger(b.log, telemetry.LogConfig{Level: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.Log, cfg.Metrics = log, b.metrics
	if change != nil {
		change(&cfg)
	}
	if b.Server, err = New(cfg, routes); err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(b.done)
		if err := b.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		b.cancel()
		<-b.done
	})
	return b
}

func (b *bed) url(path string) string { return "http://" + b.Addr() + path }

func (b *bed) do(r *http.Request) (*http.Response, string) {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func (b *bed) request(method, path string, body io.Reader) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url(path), body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func (b *bed) metric(name string, want float64, labels string) {
	b.t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			var got []string
			for _, l := range m.Label {
				if l.GetName() != "listener" {
					got = append(got, l.GetName()+"="+l.GetValue())
				}
			}
			if f.GetName() == name && strings.Join(got, ",") == labels {
				if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v != want {
					b.t.Errorf("%s{%s} = %v, want %v", name, labels, v, want)
				}
				return
			}
		}
	}
	b.t.Errorf("no metric %s{%s}", name, labels)
}

func echoBody(e *echo.Echo) {
	e.POST("/echo", func(c echo.Context) error {
		data, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "text/plain", data)
	})
	e.GET("/items/:id", func(c echo.Context) error { return c.String(http.StatusOK, c.Param("id")) })
}

func TestRequestIDs(t *testing.T) {
	var seen atomic.Value
	b := start(t, nil, func(e *echo.Echo) {
		e.GET("/", func(c echo.Context) error {
			seen.Store(telemetry.RequestID(c.Request().Context()))
			return c.NoContent(http.StatusNoContent)
		})
	})
	ids := map[string]bool{}
	for _, tc := range []struct {
		sent string
		kept bool
	}{{"abc-1/2:3", true}, {"", false}, {"a b", false}, {"\"quoted\"", false}, {strings.Repeat("x", 129), false}, {strings.Repeat("x", 128), true}, {"é", false}} {
		r := b.request("GET", "/", nil)
		if tc.sent != "" {
			r.Header.Set("X-Request-Id", tc.sent)
		}
		resp, _ := b.do(r)
		got := resp.Header.Get("X-Request-Id")
		if (got == tc.sent) != tc.kept || got == "" || ids[got] || got != seen.Load() {
			t.Errorf("sent %q, got %q, the handler saw %q", tc.sent, got, seen.Load())
		}
		ids[got] = true
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Error("no security header")
		}
	}
	if log := b.log.String(); !strings.Contains(log, `"http.request.id":"abc-1/2:3"`) {
		t.Errorf("the access log lacks the request id: %s", log)
	}
}

func TestRequestIDsAreUnique(t *testing.T) {
	g, other := newIDs(), newIDs()
	seen := map[string]bool{}
	for range 1000 {
		for _, id := range []string{g.next(new([32]byte)), other.next(new([32]byte))} {
			if seen[id] || len(id) != 32 || !validID(id) {
				t.Fatalf("id %q", id)
			}
			seen[id] = true
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	b := start(t, nil, func(e *echo.Echo) {
		e.GET("/panic", func(echo.Context) error { panic("out of cheese") })
		e.GET("/late", func(c echo.Context) error {
			c.Response().WriteHeader(http.StatusOK)
			c.Response().Write([]byte("half"))
			c.Response().Flush()
			panic("late")
		})
		e.GET("/ok", func(c echo.Context) error { return c.String(http.StatusOK, "ok") })
	})
	resp, body := b.do(b.request("GET", "/panic", nil))
	if resp.StatusCode != 500 || body != "{\"error\":\"internal error\"}\n" {
		t.Errorf("answer %d %s", resp.StatusCode, body)
	}
	if log := b.log.String(); !strings.Contains(log, "out of cheese") || !strings.Contains(log, "web_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", log)
	}
	// An answer that has begun must not look complete.
	resp, err := b.client.Do(b.request("GET", "/late", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("half an answer looks complete")
	}
	resp.Body.Close()
	if _, body := b.do(b.request("GET", "/ok", nil)); body != "ok" {
		t.Errorf("after the panics: %q", body)
	}
	b.metric("sluice_http_panics_total", 2, "")
	b.metric("sluice_http_in_flight", 0, "")
}

func TestErrorAfterTheAnswerBeganAbortsIt(t *testing.T) {
	b := start(t, nil, func(e *echo.Echo) {
		e.GET("/export", func(c echo.Context) error {
			c.Response().Write([]byte("row\n"))
			c.Response().Flush()
			return errors.New("the disk is gone")
		})
	})
	resp, err := b.client.Do(b.request("GET", "/export", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q looks complete", data)
	}
}

func TestErrors(t *testing.T) {
	var fail atomic.Pointer[error]
	b := start(t, nil, func(e *echo.Echo) {
		e.GET("/fail", func(echo.Context) error { return *fail.Load() })
		e.POST("/only-post", func(c echo.Context) error { return nil })
	})
	for _, tc := range []struct {
		err        error
		status     int
		message    string
		retryAfter string
	}{
		{fault.New(fault.Invalid, "bad"), 400, "bad", ""},
		{fmt.Errorf("outer: %w", fault.New(fault.NotFound, "none")), 404, "none", ""},
		{fault.New(fault.Unavailable, "full").WithRetryAfter(1200 * time.Millisecond), 503, "full", "2"},
		{fault.New(fault.Exhausted, "quota"), 429, "quota", "1"},
		{fault.New(fault.Unavailable, "long").WithRetryAfter(100 * time.Hour), 503, "long", "3600"},
		{fault.Wrap(fault.Internal, errors.New("password"), "broken"), 500, "broken", ""},
		{errors.New("password"), 500, "internal error", ""},
		{context.DeadlineExceeded, 504, "Request timeout expired", ""},
		{echo.NewHTTPError(418, "teapot"), 418, "teapot", ""},
		{fault.New(fault.Kind(200), "odd"), 500, "odd", ""},
	} {
		fail.Store(&tc.err)
		resp, body := b.do(b.request("GET", "/fail", nil))
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tc.status || got["error"] != tc.message || resp.Header.Get("Retry-After") != tc.retryAfter {
			t.Errorf("%v: answered %d %s Retry-After %q", tc.err, resp.StatusCode, body, resp.Header.Get("Retry-After"))
		}
	}
	if resp, _ := b.do(b.request("GET", "/nowhere", nil)); resp.StatusCode != 404 {
		t.Errorf("unknown route: %d", resp.StatusCode)
	}
	if resp, _ := b.do(b.request("GET", "/only-post", nil)); resp.StatusCode != 405 {
		t.Errorf("wrong method: %d", resp.StatusCode)
	}
	// Only defects are logged as errors, with the cause that clients never see.
	if log := b.log.String(); strings.Count(log, `"log.level":"error"`) != 2 || strings.Count(log, "password") != 2 {
		t.Errorf("logged %s", log)
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	b := start(t, nil, echoBody)
	for i := range 50 {
		b.do(b.request("GET", fmt.Sprintf("/items/%d", i), nil))
		b.do(b.request("GET", fmt.Sprintf("/nowhere/%d", i), nil))
		b.do(b.request(fmt.Sprintf("VERB%d", i), "/echo", nil))
	}
	b.metric("sluice_http_requests_total", 50, "code=200,method=GET,route=/items/:id")
	b.metric("sluice_http_requests_total", 50, "code=404,method=other,route=other")
	if n, err := testutil.GatherAndCount(b.metrics, "sluice_http_requests_total"); err != nil || n > 4 {
		t.Errorf("%d series for 3 kinds of requests, %v", n, err)
	}
}

func TestBodies(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxBody = 1000 }, echoBody)
	for _, n := range []int{0, 1, 999, 1000, 1001, 100_000} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", n))
			if chunked {
				body = io.MultiReader(body)
			}
			resp, got := b.do(b.request("POST", "/echo", body))
			switch {
			case n <= 1000 && (resp.StatusCode != 200 || len(got) != n):
				t.Errorf("%d bytes, chunked %v: %d with %d bytes", n, chunked, resp.StatusCode, len(got))
			case n > 1000 && (resp.StatusCode != 413 || !strings.Contains(got, "limit of 1000 bytes")):
				t.Errorf("%d bytes, chunked %v: %d %s", n, chunked, resp.StatusCode, got)
			}
		}
	}
	// A client that asks first is not made to send.
	c := b.dial()
	fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000000\r\nExpect: 100-continue\r\n\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "413") {
		t.Errorf("answered %q, %v", line, err)
	}
}

// Slow clients: each ends within its limit, with 408 or a closed connection.
func TestSlowClients(t *testing.T) {
	entered := make(chan struct{}, 1)
	b := start(t, func(c *Config) {
		c.ReadHeaderTimeout, c.ReadTimeout, c.IdleTimeout = 100*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	}, func(e *echo.Echo) {
		echoBody(e)
		e.POST("/deaf", func(c echo.Context) error { entered <- struct{}{}; return c.String(200, "done") })
	})
	for name, tc := range map[string]struct {
		first string
		drip  string // sent again and again
		want  string // in the answer; empty: closed without one
		atMin time.Duration
	}{
		"nothing":      {"", "", "", 100 * time.Millisecond},
		"slow header":  {"GET / HTTP/1.1\r\n", "X-A: b\r\n", "", 100 * time.Millisecond},
		"no body":      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "", " 408 ", 300 * time.Millisecond},
		"slow body":    {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "x", " 408 ", 300 * time.Millisecond},
		"slow chunks":  {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", " 408 ", 300 * time.Millisecond},
		"unread body":  {"POST /deaf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "x", " 200 ", 0},
		"idle":         {"GET /items/1 HTTP/1.1\r\nHost: localhost\r\n\r\n", "", " 200 ", 200 * time.Millisecond},
		"slow preface": {"PRI * HTTP/2.0\r\n", "", "", 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := b.dial()
			if _, err := io.WriteString(c, tc.first); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			defer close(stop)
			if tc.drip != "" {
				go func() {
					tick := time.NewTicker(20 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							if _, err := io.WriteString(c, tc.drip); err != nil {
								return
							}
						case <-stop:
							return
						}
					}
				}()
			}
			answer, _ := io.ReadAll(c) // ends when the server closes, by FIN or RST
			took := time.Since(began)
			if tc.want == "" && len(answer) > 0 && !strings.Contains(string(answer), " 400 ") || !strings.Contains(string(answer), tc.want) {
				t.Errorf("answered %q, want %q", answer, tc.want)
			}
			if took < tc.atMin || took > 10*time.Second {
				t.Errorf("ended after %s", took)
			}
		})
	}
}

// The limit on arrival must not cancel a request that is being processed, nor
// cut a stream, whatever the protocol.
func TestProcessingOutlastsReadTimeout(t *testing.T) {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, transport := range map[string]*http.Transport{"HTTP/1.1": {}, "HTTP/2": {Protocols: h2}} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(c *Config) { c.ReadHeaderTimeout, c.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond }, func(e *echo.Echo) {
				slow := func(c echo.Context) error {
					if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
						return err
					}
					for range 4 {
						select {
						case <-time.After(80 * time.Millisecond):
						case <-c.Request().Context().Done():
							return c.Request().Context().Err()
						}
						fmt.Fprintln(c.Response(), "event")
						c.Response().Flush()
					}
					return nil
				}
				e.GET("/slow", slow)
				e.POST("/slow", slow)
			})
			b.client.Transport = transport
			for _, method := range []string{"GET", "POST"} {
				resp, body := b.do(b.request(method, "/slow", strings.NewReader("x")))
				if resp.StatusCode != 200 || strings.Count(body, "event") != 4 || resp.Proto[:6] != name[:6] {
					t.Errorf("%s: %s %d %q", method, resp.Proto, resp.StatusCode, body)
				}
				if n := b.listener.fresh.Load(); n != 0 {
					t.Errorf("%d connections count as unused", n)
				}
			}
		})
	}
}

func TestHugeHeader(t *testing.T) {
	b := start(t, nil, echoBody)
	r := b.request("GET", "/items/1", nil)
	r.Header.Set("X-Big", strings.Repeat("x", 100_000))
	resp, err := b.client.Do(r)
	if err != nil {
		return // closed while the header was still on its way
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %d", resp.StatusCode)
	}
}

func TestTooManyConnections(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxConnections = 2 }, echoBody)
	held := []net.Conn{b.dial(), b.dial()}
	waitFor(t, func() bool { return b.listener.open.Load() == 2 })
	for range 3 {
		c, began := b.dial(), time.Now()
		io.WriteString(c, "GET /items/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !json.Valid(body) || err != nil {
			t.Errorf("answered %d %s %v after %s", resp.StatusCode, body, err, time.Since(began))
		}
		c.Close()
	}
	b.metric("sluice_connections", 2, "")
	b.metric("sluice_connections_refused_total", 3, "")
	for _, c := range held {
		c.Close()
	}
	waitFor(t, func() bool { return b.listener.open.Load() == 0 })
	if resp, _ := b.do(b.request("GET", "/items/1", nil)); resp.StatusCode != 200 {
		t.Errorf("after the others left: %d", resp.StatusCode)
	}
	waitFor(t, func() bool { return len(b.listener.lingering) == 0 })
}

func TestTooManyInFlight(t *testing.T) {
	release := make(chan struct{})
	b := start(t, func(c *Config) { c.MaxInFlight = 2 }, func(e *echo.Echo) {
		e.POST("/work", func(c echo.Context) error { <-release; return c.NoContent(204) })
		e.GET("/health", func(c echo.Context) error { return c.NoContent(200) })
	})
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() { b.do(b.request("POST", "/work", nil)) })
	}
	waitFor(t, func() bool { return b.places.Load() == 2 })
	b.do(b.request("GET", "/health", nil)) // has a connection ready
	fastest := time.Hour
	for range 10 {
		began := time.Now()
		resp, body := b.do(b.request("POST", "/work", nil))
		fastest = min(fastest, time.Since(began))
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, "limit of 2 concurrent requests") {
			t.Errorf("answered %d %s", resp.StatusCode, body)
		}
	}
	if fastest > 10*time.Millisecond {
		t.Errorf("a refusal took %s", fastest)
	}
	if resp, _ := b.do(b.request("GET", "/health", nil)); resp.StatusCode != 200 {
		t.Errorf("a probe got %d: a busy server must not look dead", resp.StatusCode)
	}
	b.metric("sluice_http_refused_total", 10, "reason=in_flight")
	close(release)
	work.Wait()
	if resp, _ := b.do(b.request("POST", "/work", nil)); resp.StatusCode != 204 {
		t.Errorf("after the load: %d", resp.StatusCode)
	}
}

func TestLoopbackOnly(t *testing.T) {
	b := start(t, nil, echoBody)
	for _, tc := range []struct {
		host, origin, site string
		want               int
	}{
		{"localhost:8000", "", "", 200}, {"127.0.0.1", "", "", 200}, {"[::1]:8000", "", "", 200}, {"LOCALHOST", "", "", 200},
		{"evil.example", "", "", 403}, {"evil.example:8000", "", "", 403}, {"127.0.0.1.evil.example", "", "", 403},
		{"localhost.evil.example:8000", "", "", 403}, {"10.0.0.1", "", "", 403}, {"[::]", "", "", 403}, {"[::ffff:127.0.0.1]:1", "", "", 200},
		{"localhost:8000", "https://evil.example", "", 403}, {"localhost:8000", "null", "", 403},
		{"localhost:8000", "http://localhost:8000", "", 200}, {"localhost", "", "cross-site", 403}, {"localhost", "", "same-origin", 200},
	} {
		r := b.request("POST", "/echo", strings.NewReader("x"))
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		if tc.site != "" {
			r.Header.Set("Sec-Fetch-Site", tc.site)
		}
		if resp, body := b.do(r); resp.StatusCode != tc.want || tc.want == 403 && !json.Valid([]byte(body)) {
			t.Errorf("%+v: answered %d %s", tc, resp.StatusCode, body)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.MaxBody = 0 }, func(c *Config) { c.MaxConnections = -1 }, func(c *Config) { c.IdleTimeout = 0 },
	} {
		c := testConfig()
		change(&c)
		if _, err := New(c, echoBody); !fault.Is(err, fault.Invalid) {
			t.Errorf("error is %v", err)
		}
	}
	b := start(t, nil, echoBody)
	c := testConfig()
	c.Addr = b.Addr()
	s, err := NewPlain(c, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), b.Addr()) {
		t.Errorf("a taken address gives %v", err)
	}
}

func TestPlain(t *testing.T) {
	c := testConfig()
	c.Log = slog.New(slog.DiscardHandler)
	c.ReadTimeout, c.ReadHeaderTimeout = 50*time.Millisecond, 50*time.Millisecond
	s, err := NewPlain(c, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(200 * time.Millisecond):
			io.WriteString(w, "profile")
		case <-r.Context().Done():
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "profile" {
		t.Errorf("a long profile gives %q", body)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	wait(ctx, done)
	if !done() {
		t.Fatal("waited in vain")
	}
}
