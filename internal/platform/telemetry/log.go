// Package telemetry is how the platform can be observed: logs, metrics,
// traces, and the operations endpoints that show them.
//
// Known limits: what redaction recognises, Redact says; text that others print
// past the logger is not redacted. Shipped log lines are lost with a process that
// is killed.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/fault"
)

// LogConfig says what is logged and how.
type LogConfig struct {
	Level   string // debug, info (default), warn or error
	Format  string // "json" (default) with ECS field names, or "text" for a terminal
	Service string // service.name in JSON
	Version string // service.version in JSON
}

// NewLogger returns a logger that writes to w what Redact leaves of it. Every record gets the request
// id and the trace of its context; log errors as slog.Any("error", err).
func NewLogger(w io.Writer, cfg LogConfig) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil && cfg.Level != "" {
		return nil, fault.New(fault.Invalid, "log level is %q, expected debug, info, warn or error", cfg.Level)
	}
	switch cfg.Format {
	case "text":
		return slog.New(contextHandler{redactor{Handler: slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})}}), nil
	case "json", "":
	default:
		return nil, fault.New(fault.Invalid, "log format is %q, expected json or text", cfg.Format)
	}
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: ecs})
	l := slog.New(contextHandler{redactor{Handler: h}}).With("ecs.version", "8.11.0", "service.name", cfg.Service)
	if cfg.Version != "" {
		l = l.With("service.version", cfg.Version)
	}
	return l, nil
}

// ecs renames slog's own fields to those of the Elastic Common Schema, and
// spells out errors.
func ecs(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		a.Key = "@timestamp"
	case slog.LevelKey:
		a.Key = "log.level"
		a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
	case slog.MessageKey:
		a.Key = "message"
	case "error":
		err, ok := a.Value.Any().(error)
		if !ok {
			return slog.String("error.message", a.Value.String())
		}
		// A group without a name is written in line.
		return slog.Attr{Value: slog.GroupValue(
			slog.String("error.message", err.Error()),
			slog.String("error.code", fault.CodeOf(err)),
		)}
	}
	return a
}

// RequestIDKey is the context key under which an edge keeps the request's id,
// a string.
type RequestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(RequestIDKey{}).(string)
	return id
}

// contextHandler adds what the context knows about the request.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("http.request.id", id))
	}
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace.id", s.TraceID().String()), slog.String("span.id", s.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}
