package cqrs

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/access"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

type nothing struct{ Returns[int] }

func (nothing) CommandName() string { return "bench.nothing" }

// null is a driver that forgets at once.
type null struct{ *memrepo.Driver }

func (null) Commit(context.Context, *repo.Changeset) error { return nil }

// What the bus costs over the bare handler in its unit of work: authorisation,
// validation, audit with a commitment, traces that are not recorded, metrics.
func BenchmarkSend(b *testing.B) {
	store := repo.New(null{memrepo.New(memrepo.Config{})}, repo.Config{})
	handler := func(context.Context, *repo.Tx, nothing) (int, error) { return 1, nil }
	bus, err := NewBus(store, Config{AuditKey: []byte("secret"), Metrics: prometheus.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer("")})
	if err != nil {
		b.Fatal(err)
	}
	Handle(bus, writeNotes, handler)
	ctx := access.With(context.Background(), &access.Principal{Tenant: "acme", Subject: "key_1", Permissions: access.SetOf(writeNotes)})
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			err := store.Do(ctx, repo.Scope{Tenant: "acme"}, func(ctx context.Context, tx *repo.Tx) error {
				_, err := handler(ctx, tx, nothing{})
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bus", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Send(ctx, bus, nothing{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
