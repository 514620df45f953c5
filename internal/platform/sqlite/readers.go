package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Readers is a pool of connections that read.
type Readers struct {
	idle   chan *Conn
	closed atomic.Bool
}

// OpenReaders opens the connections that read a file.
func OpenReaders(path string, o Options) (*Readers, error) {
	o = o.withDefaults()
	r := &Readers{idle: make(chan *Conn, o.Readers)}
	for range o.Readers {
		c, err := connect(path, fmt.Sprintf(both+reading, o.Patience.Milliseconds()))
		if err != nil {
			for range len(r.idle) {
				err = errors.Join(err, (<-r.idle).Close())
			}
			return nil, err
		}
		r.idle <- c
	}
	return r, nil
}

// Query runs a statement on an idle connection.
func (r *Readers) Query(ctx context.Context, s Statement, visit func(row []Value) error) error {
	if r.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c := <-r.idle:
		defer func() { r.idle <- c }()
		if r.closed.Load() {
			return ErrClosed
		}
		return Translate(c.Query(ctx, s, visit))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the connections once they are idle.
func (r *Readers) Close() error {
	r.closed.Store(true)
	var errs []error
	for range cap(r.idle) {
		errs = append(errs, (<-r.idle).Close())
	}
	return Translate(errors.Join(errs...))
}
