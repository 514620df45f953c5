package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/inference/job"
	"sluice/internal/platform/access"
	"sluice/internal/platform/config"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/telemetry"
)

// A process that runs no predictions accepts them, needs no models for that, and
// ends at once.
func TestAcceptsOnly(t *testing.T) {
	cfg, err := config.Load([]string{"--data-dir=" + t.TempDir(), "--job-concurrency=0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), cfg, Need(cfg, node.Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Tracing: tracing, Health: &telemetry.Health{},
		Permissions: []access.Declaration{{Permission: job.Run}, {Permission: job.Read}, {Permission: job.Replays}, {Permission: job.Release}}}))
	if err != nil {
		t.Fatal(err)
	}
	j, err := New(cfg, n, nil, nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(access.With(t.Context(), &access.Principal{Tenant: access.DefaultTenant, Subject: "me", Permissions: access.SetOf(job.Run, job.Read)}))
	err = lifecycle.Run(ctx, lifecycle.Config{Grace: 20 * time.Second, Started: func() {
		defer stop()
		p, err := cqrs.Send(ctx, n.Bus, job.Submit{Model: "m", Input: job.Payload{Inline: json.RawMessage("1")}})
		if err == nil {
			p, err = cqrs.Ask(ctx, n.Bus, job.Find{ID: p.ID})
		}
		if err != nil || p.Status != job.Queued {
			t.Errorf("%+v, %v", p, err)
		}
	}}, append(n.Components(), j.Component())...)
	if err != nil {
		t.Error(err)
	}
}

// What still runs is given back before the grace is over, however short that is.
func TestPatience(t *testing.T) {
	for grace, want := range map[time.Duration]time.Duration{0: time.Millisecond, time.Second: 750 * time.Millisecond, 30 * time.Second: 25 * time.Second, time.Hour: time.Hour - 5*time.Second} {
		if got := patience(grace); got != want {
			t.Errorf("of %s: %s, want %s", grace, got, want)
		}
	}
}
