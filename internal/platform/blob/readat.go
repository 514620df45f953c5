package blob

import (
	"context"
	"errors"
	"io"
)

// File reads an object at random, as the readers of ZIP and Parquet files want
// it. It is safe for concurrent use.
type File struct {
	Info Info
	get  func(Range) (Object, error)
}

// OpenFile describes the object once; every read is then one Get. All reads are
// of that version: when the object was replaced they fail with CodePrecondition,
// when it was deleted with NotFound. They end with ctx, as ReadAt has none of
// its own.
func OpenFile(ctx context.Context, r Reader, key string) (*File, error) {
	info, err := r.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	return &File{Info: info, get: func(rng Range) (Object, error) {
		return r.Get(ctx, key, GetOptions{Range: rng, IfMatch: info.ETag})
	}}, nil
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
	obj, err := f.get(Range{off, int64(len(p))})
	if err != nil {
		return 0, err
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

// Size returns the object's size in bytes.
func (f *File) Size() int64 { return f.Info.Size }
