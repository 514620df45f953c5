package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLogger(t *testing.T, w io.Writer, cfg LogConfig) *slog.Logger {
	t.Helper()
	l, err := NewLogger(w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestJSONLogUsesECSNames(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(t, &out, LogConfig{Service: "sluice", Version: "1.2.3"})
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	ctx = context.WithValue(ctx, RequestIDKey{}, "req-7")
	err := fault.Wrap(fault.Unavailable, errors.New("disk\nfull"), "cannot store").WithCode("store_full")
	l.With("component", "x").ErrorContext(ctx, "it broke", "error", err, slog.Group("g", "level", 1, "error", "kept"))

	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%v: %s", err, out.String())
	}
	for key, want := range map[string]any{
		"log.level": "error", "message": "it broke", "service.name": "sluice", "service.version": "1.2.3",
		"error.message": "cannot store: disk\nfull", "error.code": "store_full", "component": "x",
		"http.request.id": "req-7", "trace.id": span.TraceID().String(), "span.id": span.SpanID().String(),
	} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, got["@timestamp"].(string)); err != nil {
		t.Error(err)
	}
	if g := got["g"].(map[string]any); g["error"] != "kept" || g["level"] != 1.0 {
		t.Errorf("fields in a group were renamed: %v", g)
	}
	for _, key := range []string{"time", "level", "msg", "error"} {
		if _, ok := got[key]; ok {
			t.Errorf("%s is not an ECS field", key)
		}
	}
}

func TestLogLevelsAndFormats(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(t, &out, LogConfig{Level: "warn", Format: "text"})
	l.Info("quiet")
	l.Warn("loud", "error", io.EOF)
	if s := out.String(); strings.Contains(s, "quiet") || !strings.Contains(s, "msg=loud error=EOF") {
		t.Errorf("logged %q", s)
	}
	for _, cfg := range []LogConfig{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLogger(&out, cfg); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v gives %v", cfg, err)
		}
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	return w.Code, w.Body.String()
}

func TestOpsEndpoints(t *testing.T) {
	ops := NewOps(new(Health), NewRegistry(Build{Version: "v9", Revision: "abc"}), slog.New(slog.DiscardHandler), OpsConfig{Profiles: true})
	for path, want := range map[string]string{
		"/metrics":                  `sluice_build_info{goversion="",revision="abc",version="v9"} 1`,
		"/debug/pprof/goroutine":    "",
		"/debug/pprof/heap?debug=1": "heap profile",
		"/":                         "/metrics",
	} {
		if code, body := get(t, ops, path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s answers %d without %q", path, code, want)
		}
	}
	if code, body := get(t, ops, "/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics answers %d without the runtime's metrics", code)
	}
	for _, path := range []string{"/debug/pprof/cmdline", "/nope"} {
		if code, _ := get(t, ops, path); code != 404 {
			t.Errorf("%s answers %d, want 404", path, code)
		}
	}
}

// Profiles are served only where that was asked for.
func TestProfilesAreOffByDefault(t *testing.T) {
	ops := NewOps(new(Health), NewRegistry(Build{}), slog.New(slog.DiscardHandler), OpsConfig{})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/trace"} {
		if code, _ := get(t, ops, path); code != 404 {
			t.Errorf("%s answers %d, want 404", path, code)
		}
	}
	if _, body := get(t, ops, "/"); strings.Contains(body, "pprof") {
		t.Errorf("/ offers %s", body)
	}
	for address, want := range map[string]bool{
		"127.0.0.1:9090": true, "127.8.8.8:1": true, "[::1]:9090": true, "[::ffff:127.0.0.1]:1": true, "localhost:9090": true, "LocalHost:9090": true,
		":9090": false, "0.0.0.0:9090": false, "[::]:9090": false, "10.0.0.1:9090": false, "example.org:1": false, "127.0.0.1": false, "": false,
	} {
		if OnLoopback(address) != want {
			t.Errorf("OnLoopback(%q) is %t", address, !want)
		}
	}
}

func TestTracingOff(t *testing.T) {
	tr, err := NewTracing(t.Context(), TraceConfig{}, nil)
	if tr != nil || err != nil || tr.Enabled() || tr.Stop(t.Context()) != nil {
		t.Fatalf("tracing without an endpoint: %v, %v", tr, err)
	}
	ctx, h := t.Context(), http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}
	if n := testing.AllocsPerRun(100, func() {
		if tr.Enabled() {
			_, span := tr.Tracer("x").Start(tr.Extract(ctx, h), "y")
			span.End()
		}
	}); n != 0 {
		t.Errorf("costs %v allocations", n)
	}
}

func TestTracesReachTheCollector(t *testing.T) {
	paths := make(chan string, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer collector.Close()
	tr, err := NewTracing(t.Context(), TraceConfig{Endpoint: collector.URL, SampleRatio: 1, Service: "sluice"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tr.Tracer("test").Start(t.Context(), "work")
	span.End()
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-paths; got != "/v1/traces" {
		t.Errorf("exported to %s", got)
	}
	for in, want := range map[string]string{
		"http://h:4318": "http://h:4318/v1/traces", "http://h:4318/": "http://h:4318/v1/traces",
		"https://h/otel": "https://h/otel/v1/traces", "http://h/v1/traces": "http://h/v1/traces",
		"h:4318": "", "ftp://h": "", "": "", "http://": "",
	} {
		if got, err := tracesURL(in); got != want || (err == nil) != (want != "") {
			t.Errorf("tracesURL(%q) = %q, %v", in, got, err)
		}
	}
}

// The caller's decision is followed whatever our own ratio is.
func TestSamplingFollowsTheCaller(t *testing.T) {
	for _, tc := range []struct {
		ratio  float64
		parent string
		want   int
	}{
		{1, "", 1}, {0, "", 0},
		{0, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 1},
		{1, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", 0},
		{1, "garbage", 1},
	} {
		exporter := tracetest.NewInMemoryExporter()
		tr, err := newTracing(exporter, TraceConfig{SampleRatio: tc.ratio})
		if err != nil {
			t.Fatal(err)
		}
		ctx := tr.Extract(t.Context(), http.Header{"Traceparent": {tc.parent}})
		_, span := tr.Tracer("test").Start(ctx, "work")
		span.End()
		if err := tr.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		spans := exporter.GetSpans()
		if len(spans) != tc.want {
			t.Errorf("ratio %v, parent %q: %d spans, want %d", tc.ratio, tc.parent, len(spans), tc.want)
		}
		if len(spans) == 1 && strings.HasPrefix(tc.parent, "00") && spans[0].SpanContext.TraceID().String() != tc.parent[3:35] {
			t.Errorf("the trace id is not the caller's")
		}
		if err := tr.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
