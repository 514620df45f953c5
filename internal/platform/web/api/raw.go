package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/problem"
)

// RawHandler does an operation whose body or answer is bytes: it reads r.Body,
// which is held to the operation's MaxBody, and writes to w. Its input has the
// parameters only. An error before the answer has begun becomes a problem; one
// after it ends the connection, so that nobody takes a part for the whole.
type RawHandler[I any] func(ctx context.Context, w http.ResponseWriter, r *http.Request, in *I) error

// RegisterRaw adds an operation that reads and writes by itself, as uploads and
// downloads do. Permissions, quotas, problems and the document are those of
// every operation. The bytes are described by Consumes and Produces.
func RegisterRaw[I any](a *API, op Operation, do RawHandler[I]) {
	if op.Idempotency != NoKey {
		a.routes.Refuse(fault.New(fault.Invalid, "operation %s %s reads by itself: it takes no Idempotency-Key, which needs its body in memory", op.Method, op.Path))
		return
	}
	op.Document = describeRaw(op)
	Register(a, op, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			c := humaecho.Unwrap(ctx)
			err := do(c.Request().Context(), c.Response(), c.Request(), in)
			if err == nil {
				return
			}
			web.Blame(c.Request().Context(), err)
			if c.Response().Committed {
				panic(http.ErrAbortHandler) // the guard ends the connection
			}
			writeProblem(c, a.cfg.Problems, err)
		}}, nil
	})
}

// describeRaw describes an operation's bytes, and then lets it complete that.
func describeRaw(op Operation) func(*huma.Operation) {
	return func(o *huma.Operation) {
		if len(op.Consumes) > 0 {
			o.RequestBody = &huma.RequestBody{Content: bytesOf(op.Consumes)}
		}
		if op.Method == http.MethodGet {
			o.Responses = map[string]*huma.Response{
				"200": {Description: "All of it", Content: bytesOf(op.Produces)}, "206": {Description: "The range that was asked for", Content: bytesOf(op.Produces)},
				"304": {Description: "The client has it"},
				"416": {Description: "There is no such range", Content: bytesOf([]string{problem.MediaType})},
			}
		}
		if op.Document != nil {
			op.Document(o)
		}
	}
}

func bytesOf(types []string) map[string]*huma.MediaType {
	content := map[string]*huma.MediaType{}
	for _, t := range types {
		content[t] = &huma.MediaType{}
	}
	return content
}
