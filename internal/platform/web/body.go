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
// Its time is limited by Server.ReadTimeout: net/http keeps a deadline on the
// connection until the body has been read, and lifts it then, so that neither
// slow processing nor a stream of answers is cut. Here the deadline becomes an
// error that says so.
type body struct {
	io.ReadCloser
	w         http.ResponseWriter
	left, max int64
	maxKey    string        // for messages
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
		n, err = int(b.left), TooLarge(b.max, b.maxKey)
		b.w.Header().Set("Connection", "close")
	}
	b.left -= int64(n)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fault.Wrap(fault.DeadlineExceeded, err, "the request's body did not arrive within %s", b.timeout).WithCode(CodeSlowBody)
		b.w.Header().Set("Connection", "close")
	}
	b.err = err
	return n, err
}

// Close does nothing: net/http closes the body itself, and what is left of one whose request
// failed is read before that; see guard.settle.
func (b *body) Close() error { return nil }

// TooLarge is the error where a request's body is larger than limit bytes; key
// names the setting that raises it.
func TooLarge(limit int64, key string) error {
	return fault.New(fault.TooLarge, "the request body is larger than the limit of %d bytes: send less at once, or raise %s", limit, key).
		WithCode("body_too_large")
}
