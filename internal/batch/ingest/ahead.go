package ingest

import (
	"errors"
	"io"
)

// readAhead reads at places that mostly follow one another, a step at a time: of a file in
// an object store each read is a request. It is not safe for concurrent use.
type readAhead struct {
	r    io.ReaderAt
	size int64
	step int

	at   int64
	held []byte // from there on
}

// ReadAt implements io.ReaderAt.
func (a *readAhead) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		if at < a.at || at >= a.at+int64(len(a.held)) {
			if at >= a.size {
				return n, io.EOF
			}
			if err := a.fill(at); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], a.held[at-a.at:])
		n, at = n+k, at+int64(k)
	}
	return n, nil
}

// fill reads a step.
func (a *readAhead) fill(at int64) error {
	if a.held == nil {
		a.held = make([]byte, 0, min(int64(a.step), a.size))
	}
	held := a.held[:min(int64(cap(a.held)), a.size-at)]
	n, err := a.r.ReadAt(held, at)
	a.at, a.held = at, held[:n]
	if n == len(held) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
