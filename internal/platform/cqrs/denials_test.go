package cqrs

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/platform/access"
	"sluice/internal/platform/audit"
)

func denied(ctx context.Context) error { return access.Check(ctx, writeNotes) }

func TestDenialsOfAnEdgeAreAudited(t *testing.T) {
	b := newBench(t, Config{Origin: func(context.Context) Origin { return Origin{Request: "r1", Correlation: "c1"} }})
	ctx := as(t.Context(), "acme", readNotes)
	b.Denied(ctx, "http:POST:/v1/notes/:id", denied(ctx))
	b.Denied(ctx, "http:POST:/v1/"+strings.Repeat("long", 20), denied(ctx))
	b.Denied(t.Context(), "http:POST:/v1/notes", denied(t.Context())) // nobody known
	entries, events := b.outbox(t)
	if len(entries) != 2 || len(events) != 0 {
		t.Fatalf("audit %v, events %v", entries, events)
	}
	e := entries[0]
	if e.Outcome != audit.Denied || e.Action != "http:POST:/v1/notes/:id" || e.Code != "permission_missing" || e.Tenant != "acme" || e.Actor != "key_1" || e.Request != "r1" || e.Correlation != "c1" {
		t.Errorf("entry %+v", e)
	}
	if !strings.HasPrefix(entries[1].Action, "sha256:") {
		t.Errorf("entry %+v", entries[1])
	}
}

// Who is denied all the time does not fill the log, and does not keep others'
// denials out of it.
func TestDenialsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		metrics := prometheus.NewRegistry()
		b := newBench(t, Config{Metrics: metrics, Log: slog.New(slog.NewTextHandler(&log, nil))})
		flood := func() {
			ctx := as(t.Context(), "acme", readNotes)
			for range 5 * deniedEach {
				b.Denied(ctx, "http:GET:/v1/notes", denied(ctx))
			}
		}
		flood()
		other := as(t.Context(), "other", readNotes)
		b.Denied(other, "http:GET:/v1/notes", denied(other))
		time.Sleep(time.Second)
		flood()
		entries, _ := b.outbox(t)
		if len(entries) != 2*deniedEach+1 || entries[deniedEach].Tenant != "other" {
			t.Errorf("%d entries", len(entries))
		}
		if err := testutil.GatherAndCompare(metrics, strings.NewReader(`
			# HELP sluice_audit_denials_dropped_total Denials of principals that were denied too often in a second for each to get an audit entry.
			# TYPE sluice_audit_denials_dropped_total counter
			sluice_audit_denials_dropped_total 80
		`), "sluice_audit_denials_dropped_total"); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "denied too often"); n != 2 {
			t.Errorf("%d lines: %s", n, log.String())
		}
	})
}
