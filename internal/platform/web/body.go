package web

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"sluice/internal/platform/fault"
)

// body is a request's body within its limits.
//
// net/http holds the whole request to Server.ReadTimeout by a deadline on the
// connection. Left in place, it would also cancel a request whose processing
// outlasts it, for net/http watches the connection while the handler runs. So
// the body lifts it at its end: the limit is on arrival alone.
type body struct {
	io.ReadCloser
	w         http.ResponseWriter
	left, max int64
	timeout   time.Duration // for messages
	err       error         // sticky
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p))-1 > b.left {
		p = p[:b.left+1] // one more than allowed tells a body that is too large
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), tooLarge(b.max)
		b.w.Header().Set("Connection", "close")
	}
	b.left -= int64(n)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		liftReadDeadline(b.w)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fault.Wrap(fault.DeadlineExceeded, err, "the request's body did not arrive within %s", b.timeout).WithCode(codeBodyTimeout)
		b.w.Header().Set("Connection", "close")
	}
	b.err = err
	return n, err
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "the request's body is larger than the limit of %d bytes", limit).WithCode("body_too_large")
}

// liftReadDeadline lets what remains of the exchange take its time.
func liftReadDeadline(w http.ResponseWriter) {
	if d, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(time.Time{}) // fails only on a connection that is gone
		return
	}
	// Below other writers; where it is not supported at all, as in tests,
	// there is no deadline either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}
