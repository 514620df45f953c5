package tracerepo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/repo/repotest"
	"sluice/internal/platform/repo/tracerepo"
)

func recorder() (*tracetest.InMemoryExporter, trace.Tracer) {
	e := tracetest.NewInMemoryExporter()
	return e, sdktrace.NewTracerProvider(sdktrace.WithSyncer(e)).Tracer("test")
}

func wrap(tb testing.TB, d repo.Driver, tracer trace.Tracer, r prometheus.Registerer) repo.Driver {
	tb.Helper()
	d, err := tracerepo.New(d, tracer, r)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// A traced driver is as good a driver as the one within.
func TestContract(t *testing.T) {
	repotest.Run(t, func(tb testing.TB) repo.Driver {
		tracer := sdktrace.NewTracerProvider().Tracer("test")
		return wrap(tb, memrepo.New(memrepo.Config{}), tracer, prometheus.NewRegistry())
	})
}

// secretive holds what must not get into a trace.
const secretive = "canary"

var (
	schema = &repo.Schema{Kind: "things"}
	key    = repo.Key{Tenant: secretive, Kind: "things", ID: secretive}
	put    = repo.Put{Record: repo.Record{Key: key, Version: 1, Doc: []byte(`{}`)}}
	set    = &repo.Changeset{ID: secretive, Puts: []repo.Put{put}, Messages: []repo.Message{{ID: secretive, Key: key, Stream: repo.StreamEvents, Type: secretive, Data: []byte(`{}`)}}}
)

// each calls every operation once.
func each(ctx context.Context, d repo.Driver) map[string]error {
	out := map[string]error{}
	out["migrate"] = d.Migrate(ctx, []*repo.Schema{schema})
	out["commit"] = d.Commit(ctx, set)
	_, out["get"] = d.Get(ctx, key)
	_, out["find"] = d.Find(ctx, schema, &repo.FindQuery{Tenant: secretive, Limit: 5})
	_, out["summarise"] = d.Summarise(ctx, schema, &repo.SummaryQuery{Tenant: secretive})
	_, out["history"] = d.History(ctx, key, 0, 5)
	_, out["pending"] = d.Pending(ctx, 0, 5)
	out["published"] = d.Published(ctx, 0, nil, time.Now())
	_, out["republish"] = d.Republish(ctx, 0, time.Minute, time.Time{})
	_, out["trim"] = d.Trim(ctx, 0, time.Now(), 5)
	_, _, out["backlog"] = d.Backlog(ctx, 0)
	_, out["purge"] = d.Purge(ctx, "things", time.Now(), 5)
	out["ping"] = d.Ping(ctx)
	return out
}

func TestEveryCallHasASpanAndATime(t *testing.T) {
	exporter, tracer := recorder()
	registry := prometheus.NewRegistry()
	d := wrap(t, memrepo.New(memrepo.Config{}), tracer, registry)
	ctx, parent := tracer.Start(t.Context(), "parent")
	calls := each(ctx, d)
	parent.End()
	spans := map[string]tracetest.SpanStub{}
	for _, s := range exporter.GetSpans() {
		spans[strings.TrimPrefix(s.Name, "repo.")] = s
		if text := fmt.Sprint(s.Attributes); strings.Contains(text, secretive) {
			t.Errorf("%s has %s", s.Name, text)
		}
	}
	for name, err := range calls {
		s, ok := spans[name]
		if err != nil || !ok || s.SpanKind != trace.SpanKindClient || s.Parent.SpanID() != parent.SpanContext().SpanID() || s.Status.Code != codes.Unset {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
	}
	got := map[string]string{}
	for _, a := range spans["commit"].Attributes {
		got[string(a.Key)] = a.Value.String()
	}
	if diff := cmp.Diff(map[string]string{"sluice.kind": "things", "sluice.records": "1", "sluice.messages": "1"}, got); diff != "" {
		t.Error(diff)
	}
	if n, err := testutil.GatherAndCount(registry, "sluice_repo_seconds"); n != len(calls) || err != nil {
		t.Errorf("%d operations were measured, %v", n, err)
	}
}

// What is polled begins no traces.
func TestPollingBeginsNoTrace(t *testing.T) {
	exporter, tracer := recorder()
	each(t.Context(), wrap(t, memrepo.New(memrepo.Config{}), tracer, nil))
	if n := len(exporter.GetSpans()); n != 6 {
		t.Errorf("%d spans: %v", n, exporter.GetSpans())
	}
}

// failing fails every read.
type failing struct {
	repo.Driver
	err error
}

func (f failing) Get(context.Context, repo.Key) (repo.Record, error) { return repo.Record{}, f.err }

func TestErrorsAreShownByTheirCode(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   string
		kind   string
		status codes.Code
	}{
		{repo.ErrNotFound, "not_found", "not_found", codes.Unset},
		{repo.ErrConflict, "write_conflict", "conflict", codes.Unset},
		{fault.New(fault.Unavailable, secretive), "unavailable", "unavailable", codes.Error},
		{errors.New(secretive), "internal", "internal", codes.Error},
	} {
		exporter, tracer := recorder()
		registry := prometheus.NewRegistry()
		d := wrap(t, failing{memrepo.New(memrepo.Config{}), c.err}, tracer, registry)
		if _, err := d.Get(t.Context(), key); !errors.Is(err, c.err) {
			t.Errorf("the error became %v", err)
		}
		s := exporter.GetSpans()[0]
		if text := fmt.Sprint(s.Attributes, s.Status, s.Events); s.Status.Code != c.status || !strings.Contains(text, c.code) || strings.Contains(text, secretive) {
			t.Errorf("%v: %s", c.err, text)
		}
		families, err := registry.Gather()
		if err != nil || !strings.Contains(fmt.Sprint(families), `value:"`+c.kind+`"`) {
			t.Errorf("%v was not measured as %s: %v, %v", c.err, c.kind, families, err)
		}
	}
}

func TestFeaturesPassThrough(t *testing.T) {
	inner := memrepo.New(memrepo.Config{OneAggregate: true})
	_, tracer := recorder()
	d := wrap(t, inner, tracer, nil)
	if d == repo.Driver(inner) || d.Features() != inner.Features() || d.Shards() != inner.Shards() {
		t.Error("the traced driver is another one")
	}
	for _, off := range []trace.Tracer{nil, noop.Tracer{}} {
		if wrap(t, inner, off, nil) != repo.Driver(inner) {
			t.Error("a driver without tracing and metrics is wrapped")
		}
	}
	registry := prometheus.NewRegistry()
	wrap(t, inner, nil, registry)
	if _, err := tracerepo.New(inner, nil, registry); !fault.Is(err, fault.Internal) {
		t.Errorf("metrics that are registered already: %v", err)
	}
}

// still does nothing, so that what is measured is the decorator.
type still struct{ repo.Driver }

func (still) Get(context.Context, repo.Key) (repo.Record, error) { return repo.Record{}, nil }

func BenchmarkGet(b *testing.B) {
	_, tracer := recorder()
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("test")
	for _, c := range []struct {
		name   string
		driver repo.Driver
	}{
		{"bare", still{}}, {"off", wrap(b, still{}, noop.Tracer{}, nil)}, {"metrics", wrap(b, still{}, nil, prometheus.NewRegistry())},
		{"unsampled", wrap(b, still{}, never, prometheus.NewRegistry())}, {"sampled", wrap(b, still{}, tracer, prometheus.NewRegistry())},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.driver.Get(b.Context(), key)
			}
		})
	}
}
