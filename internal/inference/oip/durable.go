package oip

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/download"
	"sluice/internal/platform/web/idempotency"
)

// Durable makes predictions that outlive their request, for requests that prefer
// that: the native API.
type Durable interface {
	// Accept accepts a question durably, and returns its prediction's id. The
	// prediction expires after cancelAfter, which may be empty, as a client says it.
	Accept(ctx context.Context, q Question, cancelAfter string) (id string, err error)
	// Await returns what became of it after at most wait.
	Await(ctx context.Context, id string, wait time.Duration) (Outcome, error)
}

// Outcome is what became of a durable prediction.
type Outcome struct {
	Location string           // of the prediction in the native API
	View     any              // the prediction, to be shown as JSON while it has not ended
	Final    bool             // it has ended
	Failure  error            // why it has no answer; nil where it has one
	Header   http.Header      // of the answer
	Answer   download.Content // in the form that the question asked for
}

// inferDurably accepts a request, and answers it with 202, or with its answer
// where that comes in time.
func (a *rest) inferDurably(c echo.Context, wait time.Duration) error {
	q, free, err := a.question(c)
	defer free()
	if err != nil {
		return err
	}
	key, err := idempotency.ParseKey(c.Request().Header["Idempotency-Key"])
	if err != nil {
		return err
	}
	if key == "" || a.config.Once == nil {
		return a.accept(c, q, wait, free)
	}
	p, _ := access.From(c.Request().Context())
	r := c.Request()
	return a.config.Once.Do(c, idempotency.Request{
		Key:         idempotency.Key{Tenant: q.Tenant, Principal: p.Subject, Route: r.Method + " " + c.Path(), Value: key},
		Fingerprint: idempotency.FingerprintOf(r.Method, r.URL.RequestURI()+"\x00"+r.Header.Get(HeaderLength), q.Body),
	}, func() {
		if err := a.accept(c, q, wait, free); err != nil {
			web.Blame(c.Request().Context(), err)
			if c.Response().Committed {
				panic(http.ErrAbortHandler) // a part must not be kept as the answer; the guard ends the connection
			}
			WriteError(c, err)
		}
	})
}

// question reads a request that is not answered at once, and refuses what no
// model could answer. The function gives the memory back; it may be called twice.
func (a *rest) question(c echo.Context) (q Question, free func(), err error) {
	model, version := target(c)
	call := newInferCall(a.config.Memory.Account(), model, version)
	freed := false
	free = func() {
		if !freed {
			freed = true
			call.free()
		}
	}
	v, err := a.models.Lookup(model, version)
	if err != nil {
		return q, free, err
	}
	if call.body, err = a.readBody(c, &call.account); err != nil {
		return q, free, err
	}
	if err = call.split(c.Request().Header[HeaderLength]); err != nil {
		return q, free, err
	}
	text := len(call.text)
	if err = call.Decode(c.Request().Context(), v, &serve.Request{}); err != nil {
		return q, free, call.identify(err)
	}
	q = Question{Model: model, Version: version, Body: call.body.B, Text: &text, Header: c.Request().Header}
	if p, ok := access.From(c.Request().Context()); ok {
		q.Tenant = p.Tenant
	}
	return q, free, nil
}

// accept accepts a question, gives its memory back, and answers.
func (a *rest) accept(c echo.Context, q Question, wait time.Duration, free func()) error {
	ctx := c.Request().Context()
	id, err := a.config.Durable.Accept(ctx, q, c.Request().Header.Get("Cancel-After"))
	if err != nil {
		return err
	}
	free()
	o, err := a.config.Durable.Await(ctx, id, wait)
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Location", o.Location)
	h.Set(PredictionID, id)
	h.Set("Preference-Applied", Applied(wait))
	switch {
	case !o.Final:
		h.Set("Retry-After", "1")
		return c.JSON(http.StatusAccepted, o.View)
	case o.Failure != nil:
		return o.Failure
	}
	for name, values := range o.Header {
		h[name] = values
	}
	return download.Serve(c.Response(), c.Request(), o.Answer)
}

// Ended returns the error of a durable prediction that has ended without an
// answer: that of its request, had it been answered at once.
func Ended(code, message string, retryable bool) error {
	kind := fault.Invalid
	switch {
	case code == "internal":
		kind = fault.Internal
	case retryable:
		kind = fault.Unavailable
	}
	return fault.New(kind, "%s", message).WithCode(code)
}
