package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/encode"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/problem"
)

// serve does what all operations have in common, around one.
func (a *API) serve(ctx huma.Context, r *route, next func(huma.Context)) {
	c := humaecho.Unwrap(ctx)
	res := c.Response()
	secure(res.Header(), r.Permission != web.Public)
	for name, values := range a.life {
		res.Header()[name] = values
	}
	whole := res.Writer
	raw := web.Refusals(c)
	out := encode.Begin(raw, c.Request())
	res.Writer = out
	defer func() { res.Writer = whole }() // what went wrong is answered without compression
	res.Before(func() { revalidate(c) })
	do := func() { next(patient{ctx}) }
	if r.Events != nil && names(c.Request().Header["Accept"], "text/event-stream") {
		res.Writer, do = raw, nil
	}
	if err := a.run(c, r, do); err != nil {
		web.Blame(c.Request().Context(), err)
		writeProblem(c, a.cfg.Problems, err)
	}
	if err := out.Close(); err != nil {
		web.Blame(c.Request().Context(), err) // the client is gone
	}
}

// events serves the operation as a stream of events, which is done anew each
// time: it can be resumed, not repeated.
func (r *route) events(c echo.Context) error {
	if c.Request().Header.Get("Idempotency-Key") != "" {
		return fault.New(fault.Invalid, "a stream of events takes no Idempotency-Key: leave it out, and come back to the stream with Last-Event-ID").
			WithCode("idempotency_key_invalid")
	}
	return r.Events(c.Response(), c.Request(), c.Param)
}

// run decides whether the operation may be done, and has it done; next is nil
// where Events is to do it. Its error is from before the operation: nothing was
// written.
func (a *API) run(c echo.Context, r *route, next func()) error {
	req, h := c.Request(), c.Response().Header()
	ctx, err := a.routes.Enter(req, h, web.Route{Method: req.Method, Path: c.Path(), Permission: r.Permission}, true)
	if err != nil {
		return err
	}
	if next != nil && !acceptable(req.Header["Accept"], r.Produces) {
		return fault.New(fault.Invalid, "nothing that Accept names is offered: ask for %s", strings.Join(r.Produces, " or ")).WithCode(web.CodeNotAcceptable)
	}
	if !r.Stream && next != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	req = req.WithContext(ctx)
	c.SetRequest(req)
	if r.hasBody {
		if err := r.checkType(req); err != nil {
			return err
		}
		content, err := encode.Inflate(req.Body, req.Header["Content-Encoding"], r.MaxBody, a.cfg.MaxBodyKey)
		if err != nil {
			h.Set("Accept-Encoding", encode.Accepted)
			return err
		}
		defer content.Close()
		req.Body = content
	}
	if next == nil {
		return r.events(c)
	}
	if r.Idempotency != NoKey {
		return a.once(c, r, next)
	}
	next()
	return nil
}

// once has the operation done once for each Idempotency-Key.
func (a *API) once(c echo.Context, r *route, next func()) error {
	req := c.Request()
	value, err := idempotency.ParseKey(req.Header["Idempotency-Key"])
	if err != nil {
		return err
	}
	if value == "" {
		if r.Idempotency == KeyRequired {
			return fault.New(fault.Invalid, "this operation needs an Idempotency-Key: send a new random value, and the same one when you send it again").
				WithCode(problem.CodeIdempotencyKeyMissing)
		}
		next()
		return nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	ctx := req.Context()
	p, _ := access.From(ctx) // there is one: the route is not public
	return a.cfg.Idempotency.Do(c, idempotency.Request{
		Key:         idempotency.Key{Tenant: p.Tenant, Principal: p.Subject, Route: r.Method + " " + r.path, Value: value},
		Fingerprint: idempotency.FingerprintOf(r.Method, req.URL.RequestURI(), body), Secret: r.Secret,
	}, func() {
		c.Request().Body = io.NopCloser(bytes.NewReader(body))
		next()
	})
}

// checkType refuses bodies of types that the operation does not take. A body
// without a type counts as JSON.
func (r *route) checkType(req *http.Request) error {
	contentType := req.Header.Get("Content-Type")
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if media == "" || media == "application/json" || slices.Contains(r.Consumes, media) || slices.Contains(r.Consumes, AnyType) {
		return nil
	}
	if strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json") {
		return nil
	}
	return fault.New(fault.Unsupported, "the media type %.80q is not supported: send %s", contentType, strings.Join(append([]string{"application/json"}, r.Consumes...), " or ")).
		WithCode(web.CodeUnsupportedMediaType)
}

// patient is huma's context without its deadlines for reading: the server's own
// stay in force, which are for all bytes of a request.
type patient struct{ inner }

type inner huma.Context // a field cannot be named as the method Context is

// SetReadDeadline does nothing.
func (patient) SetReadDeadline(time.Time) error { return nil }

// Unwrap lets adapters find their context.
func (p patient) Unwrap() huma.Context { return p.inner }

var (
	noStore  = []string{"no-store"}
	noEmbed  = []string{"default-src 'none'; frame-ancestors 'none'"}
	noFrames = []string{"DENY"}
	noRefer  = []string{"no-referrer"}
)

// secure sets the headers that protect browsers' users (OWASP, REST Security
// Cheat Sheet), and names the request. What was given to one caller must not be
// kept for another.
func secure(h http.Header, private bool) {
	h["Content-Security-Policy"] = noEmbed
	h["X-Frame-Options"] = noFrames
	h["Referrer-Policy"] = noRefer
	if private {
		h["Cache-Control"] = noStore
	}
	if id := h["X-Request-Id"]; id != nil {
		h["Request-Id"] = id
	}
}
