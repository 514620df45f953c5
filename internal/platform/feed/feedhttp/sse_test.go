package feedhttp

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
)

func TestSSE(t *testing.T) {
	b := open(t, setup{http: Config{Retry: 3 * time.Second}})
	b.add(2)
	c := b.get("last_event_id=x-0", "Last-Event-ID", "x-1") // the header is the later one
	for key, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Stream-Replayed-From": "x-1",
	} {
		if got := c.header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	c.expect("retry: 3000", output(2))
	b.add(1)
	c.expect(output(3))
	time.Sleep(500 * time.Millisecond) // longer than the server lets requests take
	b.add(1)
	c.expect(output(4))
	b.topic.End()
	c.expect("id: x-5 event: end data: {}", "EOF")
	b.get("last_event_id=x-3").expect("retry: 3000", output(4), "id: x-5 event: end data: {}", "EOF")
	b.get("last_event_id=earliest").expect("retry: 3000", output(1))
	if c := b.get("last_event_id=x-5"); c.status != 204 {
		t.Errorf("behind the end: %d", c.status)
	}
}

func TestSSEPings(t *testing.T) {
	b := open(t, setup{http: Config{Ping: 20 * time.Millisecond}})
	c := b.get("")
	c.expect("retry: 3000", ": ping", ": ping")
}

func TestSSEGapsAndRefusals(t *testing.T) {
	b := open(t, setup{topic: feed.TopicConfig{MaxEvents: 2}, hub: feed.Config{MaxPerTenant: 2}})
	b.add(5)
	b.get("after=x-1").expect("retry: 3000", `id: x-3 event: gap data: {"from":"x-1","to":"x-3","reason":"expired"}`, output(4))
	for query, want := range map[string]int{"after=x-1&strict=1": 410, "after=y-1&strict=true": 410, "after=X": 400, "strict=2": 400, "slow=block": 400, "slow=never": 400, "after=%zz": 400} {
		if c := b.get(query); c.status != want {
			t.Errorf("%s: %d, want %d", query, c.status, want)
		}
	}
	b.get("").expect("retry: 3000")
	if c := b.get(""); c.status != 429 || c.header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d, Retry-After %q", c.status, c.header.Get("Retry-After"))
	}
}

func TestSSEDrains(t *testing.T) {
	b := open(t, setup{})
	c := b.get("")
	c.expect("retry: 3000")
	if err := b.hub.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if got := c.block(); !strings.HasPrefix(got, "retry: ") {
		t.Errorf("while draining: %q", got)
	}
	c.expect("EOF")
	if c := b.get(""); c.status != 503 || c.header.Get("Retry-After") == "" {
		t.Errorf("after the drain: %d", c.status)
	}
}

func TestSSEEndsWithItsCredential(t *testing.T) {
	b := open(t, setup{expires: time.Now().Add(200 * time.Millisecond)})
	c := b.get("")
	c.expect("retry: 3000")
	if got := c.block(); !strings.Contains(got, `event: error data: {"code":"credential_expired"`) {
		t.Errorf("got %q", got)
	}
	c.expect("EOF")
	revoked := fault.New(fault.Unauthenticated, "revoked").WithCode("key_revoked")
	asked := 0
	b = open(t, setup{http: Config{Ping: 10 * time.Millisecond, Recheck: time.Millisecond}, recheck: func(context.Context) error {
		if asked++; asked == 1 {
			return errors.New("the directory is away, which ends no stream")
		}
		return revoked
	}})
	c = b.get("")
	c.expect("retry: 3000", ": ping", `event: error data: {"code":"credential_invalid","message":"the credential that opened the stream is not valid any more: open another with a new one","retryable":false}`, "EOF")
}

// A consumer that takes nothing is given up after the time for a write, holds
// no more than its socket does, and disturbs nobody.
func TestSSEStalledConsumer(t *testing.T) {
	registry := prometheus.NewRegistry()
	b := open(t, setup{hub: feed.Config{Metrics: registry}, http: Config{WriteTimeout: 400 * time.Millisecond}, topic: feed.TopicConfig{MaxBytes: 8 << 20}})
	stalled := b.dial("")
	if err := stalled.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	c := b.get("")
	c.expect("retry: 3000")
	big := []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	began := time.Now()
	for n := 0; connections(t, registry) > 1; n++ {
		if _, err := b.topic.Append(t.Context(), "output", "", big); err != nil {
			t.Fatal(err)
		}
		if got := c.block(); !strings.HasPrefix(got, "id: x-") {
			t.Fatalf("the other one got %.40q", got)
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after %d events of 256 KiB it is still there", n)
		}
	}
}

func connections(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_feed_connections" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}
