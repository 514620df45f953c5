package blob

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// File reads an object at random, as the readers of ZIP and Parquet files want
// it. It is safe for concurrent use.
type File struct {
	Info  Info
	get   func(Range) (Object, error)
	ended func() error
	after func(func()) (forget func() bool)
	kept  atomic.Pointer[kept] // nil: none is open
}

// kept is an object that stays open for the reads to come.
type kept struct {
	Object
	forget func() bool // that it is closed when the context ends
}

// OpenFile describes the object once. Each read is then a Get of its own; where the store can
// read an open object at any place, only the first is, and the object stays open. All reads are
// of the version described: they fail with CodePrecondition once the object was replaced, and
// with NotFound once it was deleted, unless it is open. As ReadAt has no context, ctx is that of
// all reads, and closes what is open when it ends.
func OpenFile(ctx context.Context, r Reader, key string) (*File, error) {
	info, err := r.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	return &File{Info: info, ended: ctx.Err, get: func(rng Range) (Object, error) {
		return r.Get(ctx, key, GetOptions{Range: rng, IfMatch: info.ETag})
	}, after: func(f func()) func() bool { return context.AfterFunc(ctx, f) }}, nil
}

// Close closes what is open, before ctx ends; a later read opens it again.
func (f *File) Close() error {
	k := f.kept.Swap(nil)
	if k == nil {
		return nil
	}
	k.forget()
	return k.Body.Close()
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, badRange(Range{off, int64(len(p))}, f.Info.Size)
	case off >= f.Info.Size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if k := f.kept.Load(); k != nil {
		if err := f.ended(); err != nil {
			return 0, err
		}
		return k.At.ReadAt(p, off)
	}
	obj, err := f.get(Range{off, int64(len(p))})
	if err != nil {
		return 0, err
	}
	if obj.At != nil && f.keep(obj) {
		return obj.At.ReadAt(p, off)
	}
	defer obj.Body.Close()
	n, err := io.ReadFull(obj.Body, p)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		if int64(n) != obj.Range.Length {
			return n, Unavailable(err)
		}
		return n, io.EOF
	}
	return n, err
}

// keep keeps an object open, unless another is.
func (f *File) keep(o Object) bool {
	k := &kept{Object: o}
	k.forget = f.after(func() { _ = o.Body.Close() })
	if f.kept.CompareAndSwap(nil, k) {
		return true
	}
	k.forget()
	return false
}

// Size returns the object's size in bytes.
func (f *File) Size() int64 { return f.Info.Size }
