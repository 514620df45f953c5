package api

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Idempotency says whether an operation takes an Idempotency-Key.
type Idempotency uint8

// The ways to take an Idempotency-Key.
const (
	NoKey       Idempotency = iota // the operation is idempotent by itself
	KeyOptional                    // with a key it is done once
	KeyRequired                    // without a key it is refused
)

// AnyType as what an operation consumes has it take bodies whatever type they are said to be.
const AnyType = "*/*"

// Operation describes an operation to the router and to the OpenAPI document.
type Operation struct {
	ID      string // unique in the document, such as "create-job"
	Method  string
	Path    string // below the version's prefix, such as "/jobs/{id}"
	Summary string
	// Description is in Markdown.
	Description string
	Tags        []string

	// Permission is what callers need, or web.Public. There is no default.
	Permission access.Permission

	Status      int           // of success; default 200, or 204 for an output without a body
	MaxBody     int64         // bytes of the body's content; default Config.MaxBody
	Timeout     time.Duration // until the context ends; default Config.Timeout
	Stream      bool          // the answer is a stream: no timeout
	Idempotency Idempotency
	// Secret says that the answer holds a secret that is shown once: it is never
	// kept for repetitions.
	Secret bool
	// Produces are the media types of success, if not application/json.
	Produces []string
	// Consumes are media types of bodies beside application/json; AnyType is all of them.
	Consumes []string
	// Events serves the operation instead, without a timeout and uncompressed, for
	// clients that ask for text/event-stream. Its error is from before anything was
	// written; the function gives it the path's parameters. Nil serves none.
	Events func(w http.ResponseWriter, r *http.Request, param func(name string) string) error
	// Document completes the description; nil leaves it.
	Document func(*huma.Operation)
}

// route is a registered operation.
type route struct {
	Operation
	api     *API
	path    string // with the prefix
	hasBody bool
}

// describe returns the operation for huma, with the defaults set.
func (r *route) describe() (huma.Operation, error) {
	cfg := r.api.cfg
	r.path = cfg.Prefix + r.Path
	switch {
	case r.Permission == "":
		return huma.Operation{}, fault.New(fault.Invalid, "operation %s %s has no permission: name one, or web.Public", r.Method, r.path)
	case r.ID == "" || r.Summary == "":
		return huma.Operation{}, fault.New(fault.Invalid, "operation %s %s: the id is %q and the summary %q: neither may be empty", r.Method, r.path, r.ID, r.Summary)
	case r.Idempotency != NoKey && cfg.Idempotency == nil:
		return huma.Operation{}, fault.New(fault.Invalid, "operation %s %s takes an Idempotency-Key, but the API has no Idempotency", r.Method, r.path)
	case r.Idempotency != NoKey && (r.Stream || r.Permission == web.Public || r.Method == http.MethodGet):
		return huma.Operation{}, fault.New(fault.Invalid, "operation %s %s takes an Idempotency-Key: it must not be a stream, nor public, nor GET", r.Method, r.path)
	}
	if r.MaxBody == 0 {
		r.MaxBody = cfg.MaxBody
	}
	if r.Timeout == 0 {
		r.Timeout = cfg.Timeout
	}
	if len(r.Produces) == 0 {
		r.Produces = []string{"application/json"}
	}
	r.hasBody = slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch}, r.Method)
	op := huma.Operation{
		OperationID: r.ID, Method: r.Method, Path: r.path, Summary: r.Summary, Description: r.Description,
		Tags: r.Tags, DefaultStatus: r.Status, Metadata: map[string]any{routeKey: r},
		MaxBodyBytes: -1, BodyReadTimeout: -1, // both are serve's and the server's
		Extensions: map[string]any{"x-permission": string(r.Permission)},
	}
	if r.Permission != web.Public {
		op.Security = []map[string][]string{{"bearer": {}}, {"key": {}}}
	}
	if r.Idempotency != NoKey {
		op.Parameters = append(op.Parameters, keyParameter(r.Idempotency == KeyRequired))
	}
	if r.Document != nil {
		r.Document(&op)
	}
	return op, nil
}

func keyParameter(required bool) *huma.Param {
	least, most := 1, 257 // with quotation marks
	return &huma.Param{
		Name: "Idempotency-Key", In: "header", Required: required,
		Description: "A new random value for each operation, and the same one when the request is sent again: the operation is done once, and its answer is repeated for 24 hours.",
		Schema:      &huma.Schema{Type: "string", MinLength: &least, MaxLength: &most},
	}
}

// Describe adds operations to the document that are served elsewhere, by raw
// handlers. It adds no routes: those go through web.Routes.On.
func (a *API) Describe(operations ...huma.Operation) {
	for _, op := range operations {
		if op.Responses == nil {
			op.Responses = map[string]*huma.Response{"200": {Description: "OK"}}
		}
		op.Metadata = maps.Clone(op.Metadata)
		a.huma.OpenAPI().AddOperation(&op)
	}
}
