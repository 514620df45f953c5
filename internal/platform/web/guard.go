package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

// guard is all that happens around a handler, as one middleware: a stack of
// ten would cost ten closures and as many context copies per request.
type guard struct {
	Config
	ids      *ids
	metrics  *metrics
	tracer   trace.Tracer
	cors     *cors // nil allows no other origin
	inFlight *atomic.Int64
	places   *atomic.Int64 // those of inFlight that count against MaxInFlight
	// lingering has a place for each connection that is read behind its answer.
	lingering chan struct{}
}

// exchange is one request and its answer: all that the guard allocates for it.
// It is the request's context too, so that logs find the request's id.
type exchange struct {
	context.Context //nolint:containedctx // an exchange is its request's context, which spares a value context per request

	who    access.Slot
	id     [1]string // an array, so that it can be the header's value as it is
	room   [32]byte  // of an id that is made here
	body   body
	route  *route
	span   trace.Span // nil where traces are off
	began  time.Time
	failed error // what the handler returned
	blamed error // what the handler says about an answer of its own

	places *atomic.Int64 // the guard's
	away   bool          // it takes none any more
	unsent *unsent       // the answer, where some of the body was not read
	rest   int64         // of the body; see body.unread
}

// leave frees the request's place among those being served.
func (x *exchange) leave() {
	if !x.away {
		x.away = true
		x.places.Add(-1)
	}
}

// Stream says that the request that ctx belongs to has become a stream. One waits
// most of its time, and whoever serves it bounds how many there are: it takes no
// place among the requests being served any more, or the streams of some would
// keep everybody else out. Outside of a request it does nothing.
func Stream(ctx context.Context) {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		x.leave()
	}
}

// Slot implements access.Slotted.
func (x *exchange) Slot() *access.Slot { return &x.who }

func (x *exchange) Value(key any) any {
	switch key.(type) {
	case telemetry.RequestIDKey:
		return x.id[0]
	case exchangeKey:
		return x
	}
	if p, ok := x.who.Value(key); ok {
		return p
	}
	return x.Context.Value(key)
}

// Shared header values. A handler that sets or adds replaces the slice; none
// writes into it.
var (
	nosniff     = []string{"nosniff"}
	closeHeader = []string{"close"}
	hsts        = []string{"max-age=31536000; includeSubDomains"}
)

const requestIDHeader = "X-Request-Id"

// middleware runs after routing, before any other middleware.
func (g *guard) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error { return g.serve(c, next) }
}

// serve runs the handler of one request. It always returns nil: it has the
// error handler write what goes wrong, so that it can count the status.
func (g *guard) serve(c echo.Context, next echo.HandlerFunc) error {
	r := c.Request()
	x := &exchange{Context: r.Context(), began: time.Now(), route: g.metrics.route(r.Method, c.Path()), places: g.places}
	g.inFlight.Add(1)
	defer g.inFlight.Add(-1)
	n := g.places.Add(1)
	defer g.settle(x)
	defer g.finish(c, x)

	x.id[0] = g.requestID(r, &x.room)
	h := c.Response().Header()
	h[requestIDHeader] = x.id[:]
	h["X-Content-Type-Options"] = nosniff
	if r.TLS != nil {
		h["Strict-Transport-Security"] = hsts
	}
	if g.Draining() {
		h["Connection"] = closeHeader
	}
	if g.Tracing.Enabled() {
		g.startSpan(x, r)
	}
	r = r.WithContext(x)
	if r.Body != http.NoBody && r.Body != nil {
		x.body = body{ReadCloser: r.Body, w: c.Response().Writer, left: g.MaxBody, max: g.MaxBody, maxKey: g.MaxBodyKey, timeout: g.ReadTimeout}
		r.Body = &x.body
	}
	c.SetRequest(r)
	if g.cors != nil && g.cors.answer(h, r) {
		x.failed = c.NoContent(http.StatusNoContent)
		return nil
	}
	if x.failed = g.admit(r, n); x.failed == nil {
		x.failed = next(c)
	}
	return nil
}

func (g *guard) requestID(r *http.Request, room *[32]byte) string {
	if v := r.Header[requestIDHeader]; len(v) == 1 && validID(v[0]) {
		return v[0]
	}
	return g.ids.next(room)
}

// admit refuses what the server should not begin. Reads, among them probes,
// get some room beyond the limit: a server that is busy must not look dead.
func (g *guard) admit(r *http.Request, placed int64) error {
	limit := int64(g.MaxInFlight)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		limit += limit/4 + 16
	}
	if placed > limit {
		g.metrics.refused.WithLabelValues("in_flight").Inc()
		return fault.New(fault.Unavailable, "the server is at its limit of %d concurrent requests", g.MaxInFlight).
			WithCode("too_many_requests_in_flight").WithRetryAfter(time.Second)
	}
	if r.ContentLength > g.MaxBody {
		g.metrics.refused.WithLabelValues("body_too_large").Inc()
		return TooLarge(g.MaxBody, g.MaxBodyKey)
	}
	return nil
}

// finish is deferred: it answers a panic or an error, and accounts for the
// request. It aborts the connection where an answer that has begun cannot be
// completed, so that no client takes a part for the whole.
func (g *guard) finish(c echo.Context, x *exchange) {
	defer x.leave()
	panicked := recover()
	cause, _ := panicked.(error)
	abort := errors.Is(cause, http.ErrAbortHandler)
	if panicked != nil && !abort {
		g.metrics.panics.Inc()
		g.Log.ErrorContext(x, "a handler panicked", "panic", panicked, "http.route", x.route.path, "stack", string(debug.Stack()))
		x.failed = fault.New(fault.Internal, "internal error").WithCode("panic")
	}
	if x.failed != nil && !abort {
		if abort = c.Response().Committed; !abort {
			g.fail(c, x)
		}
	}
	g.account(c, x, abort)
	if abort {
		x.unsent = nil // a part of it
		panic(http.ErrAbortHandler)
	}
}

// account counts, traces and logs the answer.
func (g *guard) account(c echo.Context, x *exchange, aborted bool) {
	took := time.Since(x.began)
	status := c.Response().Status
	if aborted && fault.Is(x.failed, fault.Canceled) {
		status = StatusClientClosed
	}
	g.metrics.count(x.route, status, took.Seconds())
	if x.span != nil {
		x.span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= 500 {
			x.span.SetStatus(codes.Error, "")
		}
		x.span.End()
	}
	level := slog.LevelDebug
	cause := x.cause()
	if isDefect(status, cause) {
		level = slog.LevelError
	}
	if !g.Log.Enabled(x, level) {
		return
	}
	r := c.Request()
	attrs := []slog.Attr{
		slog.String("http.request.method", r.Method), slog.String("http.route", x.route.path), slog.String("url.path", r.URL.Path),
		slog.Int("http.response.status_code", status), slog.Int64("http.response.body.bytes", c.Response().Size),
		slog.Int64("event.duration", took.Nanoseconds()), slog.String("client.address", r.RemoteAddr), slog.Bool("aborted", aborted),
	}
	if cause != nil {
		attrs = append(attrs, slog.Any("error", cause))
	}
	g.Log.LogAttrs(x, level, "request", attrs...)
}

func (g *guard) startSpan(x *exchange, r *http.Request) {
	x.Context, x.span = g.tracer.Start(g.Tracing.Extract(x.Context, r.Header), x.route.method+" "+x.route.path,
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", x.route.path)))
}
