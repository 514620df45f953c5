package idempotency

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Config holds the settings of Once.
type Config struct {
	Lease     time.Duration // of one attempt, longer than any handler takes; default 45 seconds
	Keep      time.Duration // of keys and answers; default 24 hours
	MaxAnswer int           // bytes of an answer's body that are kept; default 1 MiB
	NewID     func() string // operation ids; default random UUIDs
	// Key is a secret, the same on all nodes, without which nobody can guess a
	// body by the fingerprint that is stored of it.
	Key []byte
	Log *slog.Logger // nil discards
}

// Once does each operation once.
type Once struct {
	store Store
	cfg   Config
	ended ended
}

// New returns a Once over the store.
func New(store Store, cfg Config) *Once {
	if cfg.Lease == 0 {
		cfg.Lease = 45 * time.Second
	}
	if cfg.Keep == 0 {
		cfg.Keep = 24 * time.Hour
	}
	if cfg.MaxAnswer == 0 {
		cfg.MaxAnswer = 1 << 20
	}
	if cfg.NewID == nil {
		cfg.NewID = uuid.NewString
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Once{store: store, cfg: cfg, ended: ended{attempts: map[Key]int{}}}
}

// Request is one request for an operation.
type Request struct {
	Key         Key
	Fingerprint Fingerprint
	Secret      bool // the answer holds a secret, and must not be kept
}

// Attempt is a reservation of this process: do the operation with its Context,
// through its Writer, then Finish.
type Attempt struct {
	once    *Once
	request Request
	r       Reservation
	rec     recorder
}

// Begin reserves the request's key. It returns an attempt, whose answer will go
// to w; or the answer of the operation that is finished already; or an error that
// says why it cannot be begun.
func (o *Once) Begin(ctx context.Context, w http.ResponseWriter, req Request) (*Attempt, *Answer, error) {
	req.Fingerprint = o.seal(req.Fingerprint)
	claim := Claim{req.Fingerprint, o.cfg.NewID(), o.cfg.Lease, o.cfg.Keep}
	r, reserved, err := o.store.Reserve(ctx, req.Key, claim)
	if err == nil && !reserved && r.Answer == nil && o.ended.take(req.Key, r.Attempt) {
		if err = o.store.Release(ctx, req.Key, r.Attempt, false); err == nil {
			r, reserved, err = o.store.Reserve(ctx, req.Key, claim)
		} else {
			o.ended.add(req.Key, r.Attempt)
		}
	}
	switch {
	case err != nil:
		return nil, nil, err
	case reserved:
		a := &Attempt{once: o, request: req, r: r}
		a.rec = recorder{ResponseWriter: w, before: maps.Clone(w.Header()), max: o.cfg.MaxAnswer}
		return a, nil, nil
	case r.Fingerprint != req.Fingerprint:
		return nil, nil, fault.New(fault.Unprocessable, "this Idempotency-Key was used for another request: send a new key, or the very same request").
			WithCode("idempotency_key_reused")
	case r.Answer == nil:
		return nil, nil, fault.New(fault.Conflict, "the operation of this Idempotency-Key is being done: send the same request again").
			WithCode("idempotency_in_flight").WithRetryAfter(time.Second)
	case r.Answer.Secret:
		return nil, nil, fault.New(fault.Conflict, "the operation of this Idempotency-Key was done before; its answer held a secret, which is shown once").
			WithCode("answer_not_kept")
	}
	return nil, r.Answer, nil
}

// Do has a request's operation done once: do writes its answer to c, whatever it
// is, or the answer that is there already is. Its error says why nothing was done.
func (o *Once) Do(c echo.Context, req Request, do func()) error {
	ctx, res := c.Request().Context(), c.Response()
	attempt, answer, err := o.Begin(ctx, res.Writer, req)
	switch {
	case err != nil:
		return err
	case answer != nil:
		return answer.Replay(res)
	}
	done, raw := false, res.Writer
	defer func() {
		res.Writer = raw
		if !done {
			attempt.Abandon(ctx)
		}
	}()
	c.SetRequest(c.Request().WithContext(attempt.Context(ctx)))
	res.Writer = attempt.Writer()
	do()
	done = true
	if err := attempt.Finish(ctx); err != nil {
		web.Blame(ctx, err) // the client is gone; its repetition gets the answer
	}
	return nil
}

// seal makes a fingerprint one that says nothing without the key.
func (o *Once) seal(f Fingerprint) (sealed Fingerprint) {
	mac := hmac.New(sha256.New, o.cfg.Key)
	mac.Write(f[:])
	mac.Sum(sealed[:0])
	return sealed
}

// Replay writes an answer again, and marks it.
func (a *Answer) Replay(w http.ResponseWriter) error {
	h := w.Header()
	for name, values := range a.Header {
		h[name] = slices.Clone(values)
	}
	h["Idempotent-Replayed"] = []string{"true"}
	w.WriteHeader(a.Status)
	if len(a.Body) == 0 { // 204, say, for which writing nothing is an error, too
		return nil
	}
	_, err := w.Write(a.Body)
	return err
}

// Context returns the context to do the operation with: it has its id.
func (a *Attempt) Context(ctx context.Context) context.Context {
	return web.WithOperationID(ctx, a.r.OperationID)
}

// Writer returns what the operation's answer is to be written to. It holds the
// answer until Finish.
func (a *Attempt) Writer() http.ResponseWriter { return &a.rec }

// settleTime is how long the store may take to learn the outcome, whether or not
// the client still waits.
const settleTime = 5 * time.Second

// Finish keeps the answer if it is final and sends it; kept first, so that no
// client has an answer that its repetition would not get. Of an operation that
// failed before it began, nothing is kept; after a failure that may pass, the
// operation can be tried again under its id.
func (a *Attempt) Finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	a.settle(ctx)
	return a.rec.send()
}

// Abandon gives up after a panic: the operation may be tried again under its id.
// What was written is not sent.
func (a *Attempt) Abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	a.report(ctx, a.once.store.Release(ctx, a.request.Key, a.r.Attempt, false))
}

func (a *Attempt) settle(ctx context.Context) {
	store, key, attempt := a.once.store, a.request.Key, a.r.Attempt
	switch status := a.rec.status; {
	case rejected(status):
		a.report(ctx, store.Release(ctx, key, attempt, true))
	case status == 0 || passing(status) || len(a.rec.Header()["Retry-After"]) > 0 && status >= 400 || a.rec.overflow:
		a.report(ctx, store.Release(ctx, key, attempt, false))
	case a.request.Secret && status < 400:
		a.report(ctx, store.Complete(ctx, key, attempt, Answer{Status: status, Secret: true}))
	default:
		answer := Answer{Status: status, Header: a.rec.added(), Body: bytes.Clone(a.rec.body.Bytes())}
		a.report(ctx, store.Complete(ctx, key, attempt, answer))
	}
}

// report logs what the store could not learn. The lease will end by itself, and
// this process knows that it has ended: a repetition does the operation again
// under its id.
func (a *Attempt) report(ctx context.Context, err error) {
	if err != nil {
		a.once.ended.add(a.request.Key, a.r.Attempt)
		a.once.cfg.Log.WarnContext(ctx, "the outcome of an idempotent operation was not kept", "http.route", a.request.Key.Route, "error", err)
	}
}

// rejected reports whether a status says that the request was refused before
// anything was done, so that it may be corrected and sent with the same key.
func rejected(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotAcceptable, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusPreconditionRequired:
		return true
	}
	return false
}

// passing reports whether a status says that the same request may succeed later:
// as it does where only its client was gone.
func passing(status int) bool {
	return status >= 500 || status == web.StatusClientClosed || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status == http.StatusTooEarly
}
