package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/problem"
)

// ErrorHandler writes the errors of requests below one of the prefixes as
// problems, among them that there is no such route, and leaves the others to the
// fallback.
func ErrorHandler(catalog *problem.Catalog, prefixes []string, fallback echo.HTTPErrorHandler) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		path := c.Request().URL.Path
		for _, prefix := range prefixes {
			if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
				secure(c.Response().Header(), true)
				writeProblem(c, catalog, err)
				return
			}
		}
		fallback(err, c)
	}
}

// writeProblem answers with the problem that err is.
func writeProblem(c echo.Context, catalog *problem.Catalog, err error) {
	res := c.Response()
	if res.Committed {
		return
	}
	p := *catalog.Of(err, "", "")
	place(&p, c.Request())
	h := res.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", problem.MediaType)
	body, err := json.Marshal(&p)
	if err != nil {
		web.Blame(c.Request().Context(), err)
		return // a struct of strings and numbers can be marshalled
	}
	res.WriteHeader(p.Status)
	if c.Request().Method != http.MethodHead {
		_, _ = res.Write(append(body, '\n')) // fails only where the client is gone
	}
}

// place says which request had the problem.
func place(p *problem.Problem, r *http.Request) {
	p.Instance, p.RequestID = r.URL.EscapedPath(), telemetry.RequestID(r.Context())
}

// locate is the transformer that says which request had a problem that huma
// writes.
func locate(ctx huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*problem.Problem)
	if !ok {
		return v, nil
	}
	located := *p
	u := ctx.URL()
	located.Instance, located.RequestID = u.EscapedPath(), telemetry.RequestID(ctx.Context())
	return &located, nil
}

// standard serves problems that have no API, such as the one that huma makes to
// learn their type.
var standard, _ = problem.NewCatalog("")

// newProblem is what huma calls for failures of its own.
func newProblem(ctx huma.Context, status int, msg string, errs []error) *problem.Problem {
	catalog, r := standard, (*route)(nil)
	if ctx != nil {
		if r, _ = ctx.Operation().Metadata[routeKey].(*route); r != nil {
			catalog = r.api.cfg.Problems
		}
	}
	for _, err := range errs {
		if f, ok := errors.AsType[*fault.Error](err); ok && status >= 500 { // of the body, which could not be read
			return catalog.Of(f, "", "")
		}
	}
	err := classify(status, msg).WithDetails(r.details(ctx, errs)...)
	if ctx != nil && status >= 500 {
		web.Blame(ctx.Context(), errors.Join(slices.Concat([]error{err}, errs)...))
	}
	p := catalog.Of(err, "", "")
	if status >= 400 {
		p.Status = status
	}
	return p
}

// classify gives huma's own failures a kind and a code.
func classify(status int, msg string) *fault.Error {
	switch status {
	case http.StatusBadRequest:
		return fault.New(fault.Invalid, "the body cannot be read: expected one well-formed JSON value").WithCode(problem.CodeMalformedBody)
	case http.StatusUnprocessableEntity:
		return fault.New(fault.Unprocessable, "the request does not fit its schema: errors has each place").WithCode(problem.CodeValidationFailed)
	case http.StatusUnsupportedMediaType:
		return fault.New(fault.Unsupported, "the body's media type is not supported: send application/json").WithCode(web.CodeUnsupportedMediaType)
	case http.StatusRequestTimeout:
		return fault.New(fault.DeadlineExceeded, "the body did not arrive in time").WithCode(web.CodeSlowBody)
	case http.StatusUnauthorized:
		return fault.New(fault.Unauthenticated, "%s", msg)
	case http.StatusForbidden:
		return fault.New(fault.PermissionDenied, "%s", msg)
	case http.StatusNotFound:
		return fault.New(fault.NotFound, "%s", msg)
	case http.StatusConflict:
		return fault.New(fault.Conflict, "%s", msg)
	case http.StatusTooManyRequests:
		return fault.New(fault.Exhausted, "%s", msg)
	case http.StatusServiceUnavailable:
		return fault.New(fault.Unavailable, "%s", msg)
	}
	if status >= 500 || status == 0 {
		return fault.New(fault.Internal, "internal error")
	}
	return fault.New(fault.Invalid, "%s", msg)
}
