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
const (
	// skipFirst is how much is read before the answer, so that the connection can be
	// kept: no more than net/http would read.
	skipFirst = 256 << 10
	// lingerTime is how long the rest is read behind the answer, for clients that look
	// at it only once they have sent everything.
	lingerTime = 5 * time.Second
	// maxLingering is how many connections are read so at a time.
	maxLingering = 64
)

// fail answers a request that failed. Of a large body the rest is read behind the answer,
// which leaves the connection to the client's next request: one that looks at the answer
// while it sends need not go on.
func (g *guard) fail(c echo.Context, x *exchange) {
	rest := x.body.unread(c.Request())
	large := fault.Is(x.failed, fault.TooLarge)
	if rest == 0 || rest <= skipFirst && !large && skip(x.body.ReadCloser, skipFirst) {
		g.ErrorHandler(x.failed, c)
		return
	}
	w := &whole{ResponseWriter: c.Response().Writer}
	select {
	case g.lingering <- struct{}{}:
		x.lingers = true
		_ = http.NewResponseController(w).EnableFullDuplex() // of HTTP/1, which can
	default:
	}
	if !x.lingers || large {
		w.Header()["Connection"] = closeHeader
	}
	c.Response().Writer = w
	g.ErrorHandler(x.failed, c)
	w.send()
}

// linger reads what a client still sends to a request that has been answered, within
// bounds. It is deferred, and comes after the request was accounted for: whoever is
// refused takes no place among those being served.
func (g *guard) linger(c echo.Context, x *exchange) {
	if !x.lingers {
		return
	}
	defer func() { <-g.lingering }()
	if http.NewResponseController(c.Response()).SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		skip(x.body.ReadCloser, g.MaxBody)
	}
}

// unread returns how many bytes of the body may be on their way and can be read: 0 where
// there are none, where reading them has failed, and where the client waits to be asked
// for them. Of a body of unknown length it is 1.
func (b *body) unread(r *http.Request) int64 {
	read := b.max - b.left
	switch {
	case b.ReadCloser == nil, r.ProtoMajor != 1, b.err != nil && !fault.Is(b.err, fault.TooLarge):
		return 0
	case read == 0 && r.Header.Get("Expect") != "":
		return 0
	case r.ContentLength < 0:
		return 1
	}
	return r.ContentLength - read
}

var skipped = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// skip reads up to limit bytes and reports whether that was all.
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

// whole is an answer that is sent in one piece and says how long it is, so that a client
// knows its end while the handler goes on.
type whole struct {
	http.ResponseWriter
	status int
	text   []byte
}

func (w *whole) WriteHeader(status int) { w.status = status }

func (w *whole) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	return len(p), nil
}

func (w *whole) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *whole) send() {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(w.text))}
	w.ResponseWriter.WriteHeader(cmp.Or(w.status, http.StatusOK))
	if _, err := w.ResponseWriter.Write(w.text); err == nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // a client that has gone cannot be told
	}
}
