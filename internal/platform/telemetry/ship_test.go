package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/resilience"
)

// elastic is a bulk API that keeps lines by id. status says what it answers for a
// line; 0 for nothing at all, and the whole request then fails.
type elastic struct {
	*testing.T
	status func(line string) int

	mu    sync.Mutex
	lines map[string]string
	auth  string
}

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.auth = r.Header.Get("Authorization")
	if r.URL.Path != "/logs-sluice-default/_bulk" || r.Header.Get("Content-Type") != "application/x-ndjson" || r.Method != http.MethodPost {
		e.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	var items []string
	failed := false
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		var action struct {
			Create struct {
				ID string `json:"_id"`
			}
		}
		if err := json.Unmarshal(in.Bytes(), &action); err != nil || action.Create.ID == "" || !in.Scan() {
			e.Errorf("not the bulk format: %q", in.Text())
			return
		}
		status := e.status(in.Text())
		switch {
		case status == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case e.lines[action.Create.ID] != "":
			status = http.StatusConflict
		case status == 201:
			e.lines[action.Create.ID] = in.Text()
		}
		failed = failed || status != 201
		items = append(items, fmt.Sprintf(`{"create":{"status":%d}}`, status))
	}
	_, _ = fmt.Fprintf(w, `{"errors":%t,"items":[%s]}`, failed, strings.Join(items, ","))
}

func (e *elastic) texts() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]int{}
	for _, l := range e.lines {
		var line struct{ Message string }
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			e.Error(err)
		}
		out[line.Message]++
	}
	return out
}

func newShipper(t *testing.T, e *elastic, cfg ShipConfig) *Shipper {
	t.Helper()
	e.T, e.lines = t, map[string]string{}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	policy, err := resilience.New("elasticsearch", resilience.Config{
		Retry: resilience.Retries{MinDelay: time.Microsecond}, Breaker: resilience.Breaker{MinCalls: 1000},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := resilience.NewHTTPClient(policy, resilience.HTTPConfig{})
	t.Cleanup(client.CloseIdleConnections)
	cfg.URL, cfg.Run = server.URL, "run"
	cfg.Every = 2 * time.Millisecond
	s, err := NewShipper(client, cfg, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Shipper) counted(outcome string) float64 {
	return testutil.ToFloat64(s.outcome.WithLabelValues(outcome))
}

// Every line arrives once, in spite of refusals of single lines and of whole
// requests, except those that Elasticsearch will never take.
func TestShipperSendsEveryLineOnce(t *testing.T) {
	tries := map[string]int{}
	e := &elastic{status: func(line string) int {
		tries[line]++
		switch {
		case strings.Contains(line, "bad"):
			return http.StatusBadRequest
		case tries[line] == 1 && strings.Contains(line, "7"):
			return http.StatusTooManyRequests
		case tries[line] <= 2 && strings.Contains(line, "line 50"):
			return 0
		}
		return http.StatusCreated
	}}
	s := newShipper(t, e, ShipConfig{Batch: 2000, APIKey: secret.Of("a2V5")})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	log := newLogger(t, io.MultiWriter(io.Discard, s), LogConfig{Service: "sluice"})
	for i := range 200 {
		log.Info(fmt.Sprintf("line %d", i), "password", "hunter2") //nolint:sloglint // lines have to differ
		if i%50 == 0 {
			log.Info("bad")
			time.Sleep(3 * time.Millisecond) // so that there are several batches
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	got := e.texts()
	for i := range 200 {
		if got[fmt.Sprintf("line %d", i)] != 1 {
			t.Errorf("line %d was kept %d times", i, got[fmt.Sprintf("line %d", i)])
		}
	}
	if len(got) != 200 || s.counted("shipped") != 200 || s.counted("refused") != 4 || s.counted("dropped") != 0 {
		t.Errorf("%d lines; shipped %v, refused %v, dropped %v", len(got), s.counted("shipped"), s.counted("refused"), s.counted("dropped"))
	}
	if e.auth != "ApiKey a2V5" {
		t.Errorf("authorized as %q", e.auth)
	}
	for _, l := range e.lines {
		if strings.Contains(l, "hunter2") {
			t.Fatalf("shipped %s", l)
		}
	}
}

// Where nothing can be sent, who logs is not held up, and memory is bounded.
func TestShipperDropsWhatItCannotKeep(t *testing.T) {
	e := &elastic{status: func(string) int { return 0 }}
	s := newShipper(t, e, ShipConfig{Buffer: 1000})
	for range 1000 {
		if n, err := s.Write([]byte("{\"a\":1}\n")); n != 8 || err != nil {
			t.Fatal(n, err)
		}
	}
	if s.size > 1100 || s.counted("dropped") != float64(1000-len(s.lines)) || s.counted("dropped") == 0 {
		t.Errorf("%d bytes, %v dropped, %d kept", s.size, s.counted("dropped"), len(s.lines))
	}
	kept := len(s.lines)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !fault.Is(err, fault.Unavailable) || s.counted("lost") != float64(kept) {
		t.Errorf("%v; %v of %d lost", err, s.counted("lost"), kept)
	}
}

func TestShipperConfigIsChecked(t *testing.T) {
	for _, cfg := range []ShipConfig{{}, {URL: "x", Run: "r"}, {URL: "https://a:b@h", Run: "r"}, {URL: "ftp://h", Run: "r"}, {URL: "https://h"}} {
		if _, err := NewShipper(nil, cfg, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
