package idempotency

import (
	"bytes"
	"net/http"
	"slices"
)

// recorder holds an answer until it is kept.
type recorder struct {
	http.ResponseWriter
	before   http.Header // the header when the operation began
	status   int
	body     bytes.Buffer
	max      int
	overflow bool // the answer is too large to keep, and on its way
}

// WriteHeader holds the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
}

// Write holds the body, up to max bytes.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if !r.overflow && r.body.Len()+len(p) > r.max {
		if err := r.send(); err != nil {
			return 0, err
		}
		r.overflow = true
	}
	if r.overflow {
		return r.ResponseWriter.Write(p)
	}
	return r.body.Write(p)
}

// FlushError does nothing: the answer is held until it is kept.
func (r *recorder) FlushError() error { return nil }

// send sends what is held.
func (r *recorder) send() error {
	if r.status == 0 || r.overflow {
		return nil
	}
	r.ResponseWriter.WriteHeader(r.status)
	if r.body.Len() == 0 {
		return nil
	}
	_, err := r.ResponseWriter.Write(r.body.Bytes())
	return err
}

// perRequest are headers that belong to one exchange, not to the operation.
var perRequest = []string{"Connection", "Content-Length", "Date", "Request-Id", "Set-Cookie", "X-Request-Id"}

// added returns the headers that the operation set.
func (r *recorder) added() http.Header {
	out := http.Header{}
	for name, values := range r.Header() {
		if !slices.Equal(values, r.before[name]) && !slices.Contains(perRequest, name) {
			out[name] = slices.Clone(values)
		}
	}
	return out
}
