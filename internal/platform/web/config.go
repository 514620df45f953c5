// Package web is the platform's HTTP edge: a net/http server with every limit
// set, an Echo router behind one thin guard (admission, request ids, panics,
// metrics, traces), and a shutdown that loses no accepted request.
package web

import (
	"log/slog"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
)

// Config holds a server's limits and what it reports to. All limits are
// required.
type Config struct {
	Name string // of the listener, for metrics and logs: "http", "ops"
	Addr string // host:port; port 0 picks one

	MaxBody        int64  // bytes of one request's body
	MaxBodyKey     string // names the setting of MaxBody in refusals; default "the server's limit"
	MaxHeader      int    // bytes of one request's header
	MaxConnections int
	MaxInFlight    int // requests being served; see guard.admit

	ReadHeaderTimeout time.Duration // for the header to arrive
	ReadTimeout       time.Duration // for header and body to arrive
	WriteTimeout      time.Duration // from the header to the end of the answer; streams renew it by http.ResponseController
	IdleTimeout       time.Duration // of a kept connection

	H2C bool // speak HTTP/2 without TLS too
	// LoopbackOnly refuses requests that a web page of another site could make
	// a browser on this machine send: by DNS rebinding, or across origins.
	LoopbackOnly bool

	// Routes is the table that every route must be in; nil checks nothing.
	Routes *Routes
	// CORS allows web pages of other origins; nil allows none.
	CORS *CORS

	// ErrorHandler writes the errors that handlers return; nil means HandleError.
	ErrorHandler echo.HTTPErrorHandler
	// Draining reports whether clients should be told to leave; nil means never.
	Draining func() bool
	Log      *slog.Logger          // nil discards
	Metrics  prometheus.Registerer // nil registers nowhere
	Tracing  *telemetry.Tracing    // nil traces nothing
}

// resolve returns a validated copy with its defaults set.
func (c Config) resolve() (Config, error) {
	for _, l := range []struct {
		name  string
		value int64
	}{
		{"MaxBody", c.MaxBody}, {"MaxHeader", int64(c.MaxHeader)}, {"MaxConnections", int64(c.MaxConnections)},
		{"MaxInFlight", int64(c.MaxInFlight)}, {"ReadHeaderTimeout", int64(c.ReadHeaderTimeout)},
		{"ReadTimeout", int64(c.ReadTimeout)}, {"WriteTimeout", int64(c.WriteTimeout)}, {"IdleTimeout", int64(c.IdleTimeout)},
	} {
		if l.value <= 0 {
			return c, fault.New(fault.Invalid, "web server %s: %s is %d, expected more than 0: every limit is finite", c.Name, l.name, l.value)
		}
	}
	if c.MaxBodyKey == "" {
		c.MaxBodyKey = "the server's limit"
	}
	if c.ErrorHandler == nil {
		c.ErrorHandler = HandleError
	}
	if c.Draining == nil {
		c.Draining = func() bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	c.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"listener": c.Name}, c.Metrics)
	return c, nil
}
