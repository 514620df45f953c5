package rpc

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"sluice/internal/platform/telemetry"
)

// Call is what an Observer hears of a call.
type Call struct {
	Method    string // full: /package.Service/Method
	RequestID string
	Stream    bool
	Duration  time.Duration
	Code      codes.Code
	Err       error // as the service returned it, cause and all; nil on success
}

// AccessLog returns an observer that logs each call: the server's own failures
// as errors, everything else for debugging.
func AccessLog(log *slog.Logger) Observer {
	return func(ctx context.Context, call Call) {
		level := slog.LevelDebug
		switch call.Code {
		case codes.Internal, codes.Unknown, codes.DataLoss:
			level = slog.LevelError
		}
		if !log.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("method", call.Method), slog.String("code", call.Code.String()),
			slog.Duration("duration", call.Duration), slog.String("request_id", call.RequestID),
		}
		if p, ok := peer.FromContext(ctx); ok {
			attrs = append(attrs, slog.String("peer", p.Addr.String()))
		}
		if call.Err != nil {
			attrs = append(attrs, slog.String("error", call.Err.Error()))
		}
		log.LogAttrs(ctx, level, "grpc call", attrs...)
	}
}

// requestIDKey is the metadata in which a request id comes and goes.
const requestIDKey = "x-request-id"

// callKey finds the callContext that a context belongs to.
type callKey struct{}

// callContext is the context of one call, which spares a value context for each
// thing that it knows.
type callContext struct {
	context.Context //nolint:containedctx // it is one
	requestID       string
	draining        <-chan struct{}
}

// Value implements context.Context. Logs and commands find the request's id as
// they do behind the HTTP edge.
func (c *callContext) Value(key any) any {
	switch key.(type) {
	case callKey:
		return c
	case telemetry.RequestIDKey:
		return c.requestID
	}
	return c.Context.Value(key)
}

// Draining returns a channel that is closed when the server begins to stop. A
// stream then takes no more requests, answers those it has, and ends. It is nil
// outside a call.
func Draining(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(callKey{}).(*callContext)
	if c == nil {
		return nil
	}
	return c.draining
}

// requestID returns the client's id if it is fit for logs and headers, and
// otherwise a new one.
func (s *Server) requestID(ctx context.Context) string {
	if ids := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(ids) > 0 && wellFormedID(ids[0]) {
		return ids[0]
	}
	return s.cfg.NewID()
}

// wellFormedID accepts 1 to 128 visible ASCII characters.
func wellFormedID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
