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
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fault.Wrap(fault.DeadlineExceeded, err, "the request's body did not arrive within %s", b.timeout).WithCode(codeSlowBody)
		b.w.Header().Set("Connection", "close")
	}
	b.err = err
	return n, err
}

func tooLarge(limit int64) error {
	return fault.New(fault.TooLarge, "the request's body is larger than the limit of %d bytes", limit).WithCode("body_too_large")
}
