package s3blob

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"

	"github.com/minio/minio-go/v7"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Get implements blob.Reader.
func (b *Bucket) Get(ctx context.Context, key string, opts blob.GetOptions) (blob.Object, error) {
	if err := checkKey(ctx, key); err != nil {
		return blob.Object{}, err
	}
	if opts.Length < 0 {
		_, err := opts.Resolve(0)
		return blob.Object{}, err
	}
	obj, err := b.get(ctx, key, opts)
	if err == nil || fault.CodeOf(err) != blob.CodeRange {
		return obj, err
	}
	// The server refuses all ranges of an empty object, and says no size. The
	// range is judged by the size, as everywhere.
	info, err := b.Stat(ctx, key)
	if err != nil {
		return blob.Object{}, err
	}
	rng, err := opts.Resolve(info.Size)
	if err != nil {
		return blob.Object{}, err
	}
	if info.Size > 0 { // replaced meanwhile by one that has the range
		return b.get(ctx, key, opts)
	}
	return blob.Object{Info: info, Range: rng, Body: http.NoBody}, nil
}

func (b *Bucket) get(ctx context.Context, key string, opts blob.GetOptions) (blob.Object, error) {
	var get minio.GetObjectOptions
	if opts.IfMatch != "" {
		if err := get.SetMatchETag(opts.IfMatch); err != nil {
			return blob.Object{}, blob.Refused(key, blob.Condition{IfMatch: opts.IfMatch})
		}
	}
	if opts.Range != (blob.Range{}) {
		get.Set("Range", rangeHeader(opts.Range))
	}
	body, o, header, err := b.core.GetObject(ctx, b.bucket, b.name(key), get)
	if err != nil {
		if isCode(err, minio.InvalidRange) {
			return blob.Object{}, fault.Wrap(fault.Invalid, err, "the object %q has no such range", key).WithCode(blob.CodeRange)
		}
		if isCode(err, minio.NoSuchKey) {
			return blob.Object{}, blob.NoObject(key)
		}
		return blob.Object{}, translate(ctx, err, subject{key: key, cond: blob.Condition{IfMatch: opts.IfMatch}})
	}
	obj := blob.Object{Info: infoOf(key, o), Range: blob.Range{Length: o.Size}}
	if text := header.Get("Content-Range"); text != "" {
		var first, last, size int64
		if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &size); err != nil {
			body.Close()
			return blob.Object{}, blob.Unavailable(fmt.Errorf("the server says Content-Range %q: %w", text, err))
		}
		obj.Range, obj.Info.Size = blob.Range{Offset: first, Length: last - first + 1}, size
	}
	obj.Body = &respBody{body, func(err error) error { return translate(ctx, err, subject{key: key}) }}
	// A suffix and a length is more than a Range header can say.
	if opts.Offset < 0 && opts.Length > 0 && opts.Length < obj.Range.Length {
		obj.Range.Length = opts.Length
		obj.Body = &limited{io.LimitReader(obj.Body, opts.Length), obj.Body}
	}
	return obj, nil
}

// rangeHeader is RFC 9110, section 14.1.2.
func rangeHeader(r blob.Range) string {
	switch {
	case r.Offset < 0:
		return fmt.Sprintf("bytes=%d", r.Offset)
	case r.Length == 0, r.Length > math.MaxInt64-r.Offset: // what reaches beyond every end is cut
		return fmt.Sprintf("bytes=%d-", r.Offset)
	}
	return fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1)
}

// respBody translates the errors of a body.
type respBody struct {
	io.ReadCloser
	translate func(error) error
}

// Read implements io.Reader.
func (r *respBody) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the plain end is passed on
		err = r.translate(err)
	}
	return n, err
}

// limited is the beginning of a body.
type limited struct {
	io.Reader
	io.Closer
}

// List implements blob.Lister.
func (b *Bucket) List(ctx context.Context, folder, after string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := blob.CheckFolder(folder); err != nil {
			yield(blob.Info{}, err)
			return
		}
		if err := ctx.Err(); err != nil { // the library would list nothing
			yield(blob.Info{}, err)
			return
		}
		opts := minio.ListObjectsOptions{Prefix: b.folder(folder), Recursive: true}
		if after != "" {
			opts.StartAfter = b.name(after)
		}
		for o := range b.core.ListObjectsIter(ctx, b.bucket, opts) {
			if o.Err != nil {
				yield(blob.Info{}, translate(ctx, o.Err, subject{}))
				return
			}
			key := o.Key[len(b.prefix):]
			if blob.CheckKey(key) != nil {
				continue // not one of ours
			}
			if !yield(infoOf(key, o), nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(blob.Info{}, err)
		}
	}
}

// folder is the prefix of the names below a folder.
func (b *Bucket) folder(folder string) string {
	if folder == "" {
		return b.prefix
	}
	return b.prefix + folder + "/"
}
