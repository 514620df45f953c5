package main

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// nothing is a command that does nothing, so that what is left is the bus.
type nothing struct{ cqrs.Returns[int] }

func (nothing) CommandName() string { return "bench.nothing" }

// forgetful is a store that keeps nothing.
type forgetful struct{ *memrepo.Driver }

func (forgetful) Commit(context.Context, *repo.Changeset) error { return nil }

// measureBus compares a command through the bus, with authorisation, audit entry
// with commitment, traces that are not recorded and metrics, with its bare handler
// in a unit of work.
func measureBus(_ context.Context, b *bench) error {
	store := repo.New(forgetful{memrepo.New(memrepo.Config{})}, repo.Config{})
	bus, err := cqrs.NewBus(store, cqrs.Config{AuditKey: make([]byte, 32), Metrics: prometheus.NewRegistry(), Tracer: tracenoop.NewTracerProvider().Tracer("")})
	if err != nil {
		return err
	}
	handler := func(context.Context, *repo.Tx, nothing) (int, error) { return 1, nil }
	cqrs.Handle(bus, "bench:run", handler)
	ctx := access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf("bench:run")})
	var failed error
	run := func(f func() error) testing.BenchmarkResult {
		return testing.Benchmark(func(tb *testing.B) {
			for tb.Loop() {
				if err := f(); err != nil {
					failed = err
				}
			}
		})
	}
	var over, allocs []float64
	for range b.rounds() {
		bare := run(func() error {
			return store.Do(ctx, repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error {
				_, err := handler(ctx, tx, nothing{})
				return err
			})
		})
		through := run(func() error { _, err := cqrs.Send(ctx, bus, nothing{}); return err })
		over = append(over, float64(through.NsPerOp()-bare.NsPerOp())/1000)
		allocs = append(allocs, float64(through.AllocsPerOp()-bare.AllocsPerOp()))
	}
	b.report.line("a command through the bus takes %.2f us and %.0f allocations more than its bare handler", median(over), median(allocs))
	b.report.set("bus_overhead", median(over))
	b.report.set("bus_allocs", median(allocs))
	return failed
}
