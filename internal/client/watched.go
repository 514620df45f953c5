package client

import (
	"context"
	"io"
	"net/http"
	"time"
)

// watched is a body that ends its request when nothing has moved for too long.
type watched struct {
	io.ReadCloser
	timer *time.Timer
}

// Read implements io.Reader.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.timer.Reset(silence)
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.timer.Stop()
	return w.ReadCloser.Close()
}

// over returns the request with this body, which a silent server ends.
func (w *watched) over(req *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(req.Context())
	w.timer = time.AfterFunc(silence, cancel)
	length := req.ContentLength
	req = req.WithContext(ctx)
	req.Body, req.ContentLength = w, length
	return req, func() { w.timer.Stop(); cancel() }
}
