package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/fault"
)

// TraceConfig says where traces go.
type TraceConfig struct {
	Endpoint    string  // base URL of an OTLP/HTTP collector; empty turns tracing off
	SampleRatio float64 // share of traces that are recorded where no caller has decided
	Service     string
	Version     string
}

// Tracing records traces. A nil *Tracing is valid and means off: its methods
// then cost nothing.
type Tracing struct{ provider *sdktrace.TracerProvider }

// NewTracing sets up tracing, or returns nil where no endpoint is configured.
// It does not touch OpenTelemetry's global provider; failed exports go to log.
func NewTracing(ctx context.Context, cfg TraceConfig, log *slog.Logger) (*Tracing, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	target, err := tracesURL(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(target))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the trace exporter cannot be set up")
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("traces are lost", "error", err)
	}))
	return newTracing(exporter, cfg)
}

func newTracing(exporter sdktrace.SpanExporter, cfg TraceConfig) (*Tracing, error) {
	res, err := resource.Merge(resource.NewSchemaless(
		attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version),
	), resource.Environment())
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "OTEL_RESOURCE_ATTRIBUTES cannot be used")
	}
	return &Tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))),
	)}, nil
}

// tracesURL appends the traces path to a collector's base URL.
func tracesURL(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fault.New(fault.Invalid, "the trace endpoint is not a URL such as http://localhost:4318")
	}
	const path = "/v1/traces"
	if !strings.HasSuffix(u.Path, path) {
		u.Path = strings.TrimSuffix(u.Path, "/") + path
	}
	return u.String(), nil
}

// Enabled reports whether traces are recorded at all.
func (t *Tracing) Enabled() bool { return t != nil }

// Tracer returns the tracer of an instrumented package.
func (t *Tracing) Tracer(name string) trace.Tracer {
	if t == nil {
		return noop.Tracer{}
	}
	return t.provider.Tracer(name)
}

// Extract returns ctx with the caller's W3C trace context, if the header has one.
func (t *Tracing) Extract(ctx context.Context, h http.Header) context.Context {
	if t == nil {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// Stop exports what is left and ends tracing.
func (t *Tracing) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}
