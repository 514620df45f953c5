package feedhttp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/platform/feed"
	"sluice/internal/platform/web"
)

// SSE serves a stream as server-sent events (HTML Standard, 9.2). A client that
// comes back behind the end is answered 204, which stops browsers.
func (h *Handler) SSE(w http.ResponseWriter, r *http.Request, t Target) error {
	req, err := request(r, &t)
	if err != nil {
		return err
	}
	req.Transport = "sse"
	s, err := h.hub.Subscribe(r.Context(), req)
	if errors.Is(err, feed.ErrEnded) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	web.Stream(r.Context()) // the hub has limits of its own
	out := &sse{w: w, control: http.NewResponseController(w), timeout: h.cfg.WriteTimeout, now: h.cfg.Now}
	if out.open(s.From(), h.cfg.Retry) == nil {
		out.finish(r.Context(), s.Serve(r.Context(), out, h.serving(r.Context())))
	}
	return nil // whatever failed, the status is sent
}

// sse writes events to one client.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	now     func() time.Time
	until   time.Time // the time limit in force
}

var ping = []byte(": ping\n\n")

// open sends the header. The server's limit for reading is no concern: net/http
// lifts it once it has the request.
func (o *sse) open(from feed.Cursor, retry time.Duration) error {
	h := o.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Stream-Replayed-From", from.String())
	o.w.WriteHeader(http.StatusOK)
	return o.write(retryLine(retry))
}

func retryLine(d time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), d.Milliseconds(), 10), "\n\n"...)
}

// Put writes a batch, each event within the time limit.
func (o *sse) Put(_ context.Context, batch []*feed.Event) error {
	for _, e := range batch[:len(batch)-1] {
		if err := o.put(e.SSE()); err != nil {
			return err
		}
	}
	return o.write(batch[len(batch)-1].SSE())
}

// Ping writes a comment.
func (o *sse) Ping(context.Context) error { return o.write(ping) }

// put hands bytes to the server's buffer, which writes them when it is full. A
// limit that is nearly whole is left as it is, for setting one costs as much as
// the rest of this.
func (o *sse) put(b []byte) error {
	if until := o.now().Add(o.timeout); until.Sub(o.until) > o.timeout/8 {
		if err := o.control.SetWriteDeadline(until); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		o.until = until
	}
	_, err := o.w.Write(b) //nolint:gosec // JSON, as text/event-stream, which no browser takes for a page
	return err
}

// write is put, and makes sure that the client gets it now.
func (o *sse) write(b []byte) error {
	if err := o.put(b); err != nil {
		return err
	}
	return o.control.Flush()
}

// finish tells the client why its stream ends, as far as that helps it. When
// the server stops, all clients come back: not all at once.
func (o *sse) finish(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil, errors.Is(err, feed.ErrUnsent), errors.Is(err, feed.ErrEnded):
	case errors.Is(err, feed.ErrDraining):
		_ = o.write(retryLine(500*time.Millisecond + rand.N(2*time.Second)))
	default:
		_ = o.write(feed.NewError(err, o.now()).SSE()) // if it fails the client is gone
	}
}
