package web

import (
	"cmp"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

// What a request that failed has not been read of is not just left behind: net/http
// would read up to 256 KiB of it in small pieces before the answer, and close the
// connection over more, which resets it under a client that is still sending. Few
// clients see the answer then.
//
// A connection is kept only where the body was read to its end: what is left on the wire
// must never be taken for another request.
const (
	// skipFirst is how much is read before the answer, so that the connection can be
	// kept: no more than net/http would read.
	skipFirst = 256 << 10
	// lingerTime is how long the rest is waited for before the answer, and again behind it,
	// for clients that look at it only once they have sent everything.
	lingerTime = 5 * time.Second
	// maxLingering is how many connections are read behind their answers at a time.
	maxLingering = 64
)

// fail writes the answer to a request that failed. Where some of the body is left it is
// not sent yet, but by settle.
func (g *guard) fail(c echo.Context, x *exchange) {
	if x.rest = x.body.unread(c.Request()); x.rest == 0 {
		g.ErrorHandler(x.failed, c)
		return
	}
	res := c.Response()
	w := &unsent{ResponseWriter: res.Writer, head: c.Request().Method == http.MethodHead}
	res.Writer = w
	g.ErrorHandler(x.failed, c)
	res.Writer, x.unsent = w.ResponseWriter, w
}

// Refusals returns the writer of a handler that writes its failures itself: an answer of 400
// and more to a request whose body was not read is held as those are that fail writes, and
// sent as they are. Such a handler writes the whole of it before it returns.
func Refusals(c echo.Context) http.ResponseWriter {
	w := c.Response().Writer
	x, ok := c.Request().Context().Value(exchangeKey{}).(*exchange)
	if !ok || x.body.ReadCloser == nil {
		return w
	}
	return &refusals{w, x, c.Request()}
}

type refusals struct {
	http.ResponseWriter
	x *exchange
	r *http.Request
}

// Unwrap lets http.ResponseController find what this writer does not do.
func (w *refusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *refusals) WriteHeader(status int) {
	if status >= http.StatusBadRequest && w.x.unsent == nil {
		if w.x.rest = w.x.body.unread(w.r); w.x.rest > 0 {
			w.x.unsent = &unsent{ResponseWriter: w.ResponseWriter, head: w.r.Method == http.MethodHead}
			w.ResponseWriter = w.x.unsent
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// settle sends the answer that fail, or a handler, has left. It is deferred, and comes after the request
// was accounted for and has left its place: whoever is refused takes none among those being
// served, however slowly it sends. What is not read before the answer closes the connection
// (RFC 9112 section 9.6), and is read behind it, within bounds.
func (g *guard) settle(x *exchange) {
	if x.unsent == nil {
		return
	}
	if x.body.err == nil && x.rest <= skipFirst && g.skip(x, skipFirst) {
		x.unsent.send()
		return
	}
	x.unsent.Header()["Connection"] = closeHeader
	if x.unsent.send(); x.unsent.flush() != nil {
		return // a client that has gone cannot be told
	}
	select {
	case g.lingering <- struct{}{}:
		defer func() { <-g.lingering }()
		g.skip(x, g.MaxBody)
	default: // closed at once, as net/http would
	}
}

// skip reads up to limit bytes of the body for a while, and reports whether it has come to
// the end.
func (g *guard) skip(x *exchange, limit int64) bool {
	wait := min(lingerTime, g.ReadTimeout)
	return http.NewResponseController(x.unsent.ResponseWriter).SetReadDeadline(time.Now().Add(wait)) == nil && skip(x.body.ReadCloser, limit)
}

// unread returns how many bytes of the body may be on their way and can be read: 0 where
// there are none, where reading them has failed, and where the client waits to be asked
// for them. Of a body of unknown length it is 1.
func (b *body) unread(r *http.Request) int64 {
	read := b.max - b.left
	switch {
	case b.ReadCloser == nil, r.ProtoMajor != 1, b.err != nil && !fault.Is(b.err, fault.TooLarge):
		return 0
	case read == 0 && r.ProtoAtLeast(1, 1) && r.Header.Get("Expect") != "":
		return 0
	case r.ContentLength < 0:
		return 1
	}
	return r.ContentLength - read
}

var skipped = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// skip reads up to limit bytes and reports whether that was all. A read that fails, by time
// or by malformed chunks, is not.
func skip(r io.Reader, limit int64) bool {
	room := skipped.Get().(*[64 << 10]byte)
	defer skipped.Put(room)
	for limit > 0 {
		n, err := r.Read(room[:min(limit, int64(len(room)))])
		if limit -= int64(n); err != nil {
			return err == io.EOF
		}
	}
	return false
}

// unsent is an answer that is sent later, in one piece. It says how long it is, so that a
// client knows its end while the connection is still read.
type unsent struct {
	http.ResponseWriter
	head   bool // the answer to HEAD, whose length is not that of the text
	status int
	text   []byte
}

func (w *unsent) WriteHeader(status int) { w.status = status }

func (w *unsent) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	return len(p), nil
}

func (w *unsent) send() {
	if !w.head {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(w.text))}
	}
	w.ResponseWriter.WriteHeader(cmp.Or(w.status, http.StatusOK))
	_, _ = w.ResponseWriter.Write(w.text) // net/http remembers what went wrong
}

func (w *unsent) flush() error { return http.NewResponseController(w.ResponseWriter).Flush() }
