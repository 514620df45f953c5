package blobtest

import (
	"context"
	"io"
	"iter"
	"time"

	"sluice/internal/platform/blob"
)

// Fault is what goes wrong with one operation. The zero Fault is nothing.
type Fault struct {
	// Delay passes before the operation begins, or its context ends.
	Delay time.Duration
	// Err is returned; the operation does not take place, unless After is set.
	Err error
	// After makes the operation take place before Err is returned, as when an
	// answer is lost on its way.
	After bool
	// Cut breaks off the body that is read or written after so many bytes, with
	// Err, or with io.ErrUnexpectedEOF if that is nil. 0 does not.
	Cut int64
}

// Faulty returns b with faults. Plan is asked before every operation, which it
// knows by the name of the method and the key or folder; it is called
// concurrently when the bucket is.
func Faulty(b blob.Bucket, plan func(operation, key string) Fault) blob.Bucket {
	return &faulty{b, plan}
}

type faulty struct {
	bucket blob.Bucket
	plan   func(operation, key string) Fault
}

// inject runs an operation under its fault.
func inject[T any](ctx context.Context, f *faulty, operation, key string, run func(Fault) (T, error)) (T, error) {
	var none T
	fault := f.plan(operation, key)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	if fault.Err == nil || fault.Cut > 0 {
		return run(fault)
	}
	if fault.After {
		if _, err := run(fault); err != nil {
			return none, err
		}
	}
	return none, fault.Err
}

// cut breaks a body off.
func (f Fault) cut(body io.Reader) io.Reader {
	if f.Cut <= 0 {
		return body
	}
	err := f.Err
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return io.MultiReader(io.LimitReader(body, f.Cut), readFunc(func([]byte) (int, error) { return 0, err }))
}

func (f *faulty) Get(ctx context.Context, key string, opts blob.GetOptions) (blob.Object, error) {
	return inject(ctx, f, "Get", key, func(fault Fault) (blob.Object, error) {
		obj, err := f.bucket.Get(ctx, key, opts)
		if err == nil {
			obj.Body = struct {
				io.Reader
				io.Closer
			}{fault.cut(obj.Body), obj.Body}
		}
		return obj, err
	})
}

func (f *faulty) Stat(ctx context.Context, key string) (blob.Info, error) {
	return inject(ctx, f, "Stat", key, func(Fault) (blob.Info, error) { return f.bucket.Stat(ctx, key) })
}

func (f *faulty) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) (blob.Info, error) {
	return inject(ctx, f, "Put", key, func(fault Fault) (blob.Info, error) { return f.bucket.Put(ctx, key, fault.cut(body), opts) })
}

func (f *faulty) Delete(ctx context.Context, key string) error {
	_, err := inject(ctx, f, "Delete", key, func(Fault) (struct{}, error) { return struct{}{}, f.bucket.Delete(ctx, key) })
	return err
}

func (f *faulty) Copy(ctx context.Context, from, to, sha256 string) (blob.Info, error) {
	return inject(ctx, f, "Copy", to, func(Fault) (blob.Info, error) { return f.bucket.Copy(ctx, from, to, sha256) })
}

func (f *faulty) List(ctx context.Context, folder, after string) iter.Seq2[blob.Info, error] {
	return injectSeq(ctx, f, "List", folder, f.bucket.List(ctx, folder, after))
}

func (f *faulty) Uploads(ctx context.Context, folder string) iter.Seq2[blob.Upload, error] {
	return injectSeq(ctx, f, "Uploads", folder, f.bucket.Uploads(ctx, folder))
}

func (f *faulty) Parts(ctx context.Context, up blob.Upload) iter.Seq2[blob.Part, error] {
	return injectSeq(ctx, f, "Parts", up.Key, f.bucket.Parts(ctx, up))
}

// injectSeq fails before the first element; with After, behind the last.
func injectSeq[T any](ctx context.Context, f *faulty, operation, key string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		_, err := inject(ctx, f, operation, key, func(Fault) (struct{}, error) {
			for v, err := range seq {
				if !yield(v, err) {
					stopped = true
					break
				}
			}
			return struct{}{}, nil
		})
		if err != nil && !stopped {
			var none T
			yield(none, err)
		}
	}
}

func (f *faulty) Begin(ctx context.Context, key string, opts blob.UploadOptions) (blob.Upload, error) {
	return inject(ctx, f, "Begin", key, func(Fault) (blob.Upload, error) { return f.bucket.Begin(ctx, key, opts) })
}

func (f *faulty) Part(ctx context.Context, up blob.Upload, number int, body io.Reader, opts blob.PartOptions) (blob.Part, error) {
	return inject(ctx, f, "Part", up.Key, func(fault Fault) (blob.Part, error) {
		return f.bucket.Part(ctx, up, number, fault.cut(body), opts)
	})
}

func (f *faulty) Complete(ctx context.Context, up blob.Upload, parts []blob.Part, cond blob.Condition) (blob.Info, error) {
	return inject(ctx, f, "Complete", up.Key, func(Fault) (blob.Info, error) { return f.bucket.Complete(ctx, up, parts, cond) })
}

func (f *faulty) Abort(ctx context.Context, up blob.Upload) error {
	_, err := inject(ctx, f, "Abort", up.Key, func(Fault) (struct{}, error) { return struct{}{}, f.bucket.Abort(ctx, up) })
	return err
}

func (f *faulty) PresignGet(ctx context.Context, key string, expires time.Duration, fileName string) (string, error) {
	return inject(ctx, f, "PresignGet", key, func(Fault) (string, error) { return f.bucket.PresignGet(ctx, key, expires, fileName) })
}

func (f *faulty) PresignPut(ctx context.Context, key string, expires time.Duration) (string, error) {
	return inject(ctx, f, "PresignPut", key, func(Fault) (string, error) { return f.bucket.PresignPut(ctx, key, expires) })
}

func (f *faulty) PresignPart(ctx context.Context, up blob.Upload, number int, size int64, expires time.Duration) (string, error) {
	return inject(ctx, f, "PresignPart", up.Key, func(Fault) (string, error) { return f.bucket.PresignPart(ctx, up, number, size, expires) })
}
