// Package api is the native HTTP API: operations on Go types, with an OpenAPI 3.1
// document for each version, problem details (RFC 9457) for every failure,
// conditional requests, idempotent commands, quotas and compression.
//
// An operation is a function of a context and an input to an output and an error;
// Register makes a route of it. Everything that is the same for all of them
// happens in one place, serve. Its cost is why hot paths are raw Echo handlers
// instead, described to the document with Describe.
//
// Known limits: bodies are JSON, unless an operation writes its own; and huma,
// which does the binding, keeps a few settings in package variables, which the
// first New sets for the process.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/problem"
)

// Config holds the settings of one version of an API.
type Config struct {
	Title       string
	Description string
	Version     string // names the version and its routes' prefix: "v1"
	Prefix      string // default "/" + Version

	// Problems is the catalog of failures; default problem.Standard.
	Problems *problem.Catalog
	// Idempotency serves operations that take an Idempotency-Key; without it
	// they cannot be registered.
	Idempotency *idempotency.Once

	MaxBody    int64         // bytes of a body's content, inflated; default 1 MiB
	MaxBodyKey string        // names the setting of MaxBody; default "the operation's limit"
	Timeout    time.Duration // of operations; default 30 seconds

	// Deprecated is when this version was declared obsolete (RFC 9745), and Sunset
	// when it will end (RFC 8594); zero for neither.
	Deprecated, Sunset time.Time

	Log *slog.Logger // nil discards
}

func (c Config) resolve() (Config, error) {
	if c.Version == "" || c.Title == "" {
		return c, fault.New(fault.Invalid, "api: the title is %q and the version %q: neither may be empty", c.Title, c.Version)
	}
	if c.Prefix == "" {
		c.Prefix = "/" + c.Version
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.MaxBodyKey == "" {
		c.MaxBodyKey = "the operation's limit"
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxBody < 0 || c.Timeout < 0 {
		return c, fault.New(fault.Invalid, "api %s: MaxBody is %d and Timeout %s: neither may be negative", c.Version, c.MaxBody, c.Timeout)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.Problems == nil {
		c.Problems, err = problem.NewCatalog("")
	}
	return c, err
}

// API is one version of the native API.
type API struct {
	cfg    Config
	routes *web.Routes
	huma   huma.API
	life   http.Header // Deprecation and Sunset, made once

	document func() ([2]document, error) // in JSON and in YAML, made once
}

// New returns an API without operations, and adds the routes of its OpenAPI
// document to e: openapi.json and openapi.yaml below its prefix.
func New(e *echo.Echo, routes *web.Routes, cfg Config) (*API, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	setUpHuma()
	a := &API{cfg: cfg, routes: routes, life: http.Header{}}
	if !cfg.Deprecated.IsZero() {
		a.life.Set("Deprecation", "@"+strconv.FormatInt(cfg.Deprecated.Unix(), 10))
	}
	if !cfg.Sunset.IsZero() {
		a.life.Set("Sunset", cfg.Sunset.UTC().Format(http.TimeFormat))
	}
	hc := huma.Config{
		OpenAPI:                      newDocument(cfg),
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{locate},
	}
	a.huma = huma.NewAPI(hc, &adapter{Adapter: humaecho.New(e, hc).Adapter(), api: a})
	a.serveDocument(e)
	return a, nil
}

// setUpHuma sets huma's package variables: failures are problems, names of
// fields are case-sensitive, and lists are lists, never null.
var setUpHuma = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newProblem(nil, status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return newProblem(ctx, status, msg, errs)
	}
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
})

// adapter puts serve before every operation.
type adapter struct {
	huma.Adapter
	api *API
}

// routeKey is where an operation's metadata has its *route.
const routeKey = "route"

// Handle adds an operation's route, and for GET one for HEAD (RFC 9110, 9.3.2).
func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	r, ok := op.Metadata[routeKey].(*route)
	if !ok {
		a.api.routes.Refuse(fault.New(fault.Invalid, "operation %s %s was registered with huma itself: use api.Register, which asks for a permission", op.Method, op.Path))
		return
	}
	a.handle(op, r, handler)
	if op.Method == http.MethodGet {
		head := *op
		head.Method = http.MethodHead
		a.handle(&head, r, handler)
	}
}

func (a *adapter) handle(op *huma.Operation, r *route, handler func(huma.Context)) {
	a.api.routes.Declare(op.Method, strings.NewReplacer("{", ":", "}", "").Replace(op.Path), r.Permission)
	a.Adapter.Handle(op, func(ctx huma.Context) { a.api.serve(ctx, r, handler) })
}

// Handler does an operation. Its input has the parameters (fields with a path,
// query or header tag) and the Body; its output headers (fields with a header
// tag), Status and Body. See huma's documentation for the tags that say what is
// valid.
type Handler[I, O any] func(ctx context.Context, in *I) (*O, error)

// Register adds an operation. What is wrong with it, most of all that it has no
// permission, keeps the server from starting.
func Register[I, O any](a *API, op Operation, do Handler[I, O]) {
	r := &route{Operation: op, api: a}
	described, err := r.describe()
	if err != nil {
		a.routes.Refuse(err)
		return
	}
	defer func() { // huma panics where types or tags are wrong
		if p := recover(); p != nil {
			a.routes.Refuse(fault.New(fault.Invalid, "operation %s %s: %v", op.Method, r.path, p))
		}
	}()
	huma.Register(a.huma, described, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			web.Blame(ctx, err)
			return nil, a.cfg.Problems.Of(err, "", "")
		}
		return out, nil
	})
}
