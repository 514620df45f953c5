package blob

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// Observed counts what is done with a bucket: operations by kind and outcome
// ("ok" or the kind of the fault), their seconds, and the bytes of bodies. Store
// is the label that tells buckets apart. A get's seconds end when its body
// begins, a list's when it ends; what is read of an object that stays open is no get of its own.
func Observed(b Bucket, store string, r prometheus.Registerer) (Bucket, error) {
	labels := prometheus.Labels{"store": store}
	o := &observed{
		bucket: b,
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_blob_operations_total", Help: "Operations on objects, by kind and outcome.", ConstLabels: labels,
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_blob_operation_seconds", Help: "Time that operations on objects took.", ConstLabels: labels,
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300},
		}, []string{"operation"}),
	}
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_blob_bytes_total", Help: "Bytes of objects read and written.", ConstLabels: labels,
	}, []string{"direction"})
	o.read, o.written = bytes.WithLabelValues("read"), bytes.WithLabelValues("written")
	for _, c := range []prometheus.Collector{o.operations, o.seconds, bytes} {
		if err := r.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the metrics of object store %q cannot be registered", store)
		}
	}
	return o, nil
}

type observed struct {
	bucket        Bucket
	operations    *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	read, written prometheus.Counter
}

// done counts an operation that began at start; defer it with the address of the result.
func (o *observed) done(operation string, start time.Time, err *error) {
	outcome := "ok"
	if *err != nil {
		outcome = fault.Of(*err).Kind.String()
	}
	o.operations.WithLabelValues(operation, outcome).Inc()
	o.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds())
}

func (o *observed) Get(ctx context.Context, key string, opts GetOptions) (obj Object, err error) {
	defer o.done("get", time.Now(), &err)
	obj, err = o.bucket.Get(ctx, key, opts)
	if err == nil {
		obj.Body = &counted{obj.Body, obj.Body, o.read}
		if obj.At != nil {
			obj.At = countedAt{obj.At, o.read}
		}
	}
	return obj, err
}

func (o *observed) Stat(ctx context.Context, key string) (info Info, err error) {
	defer o.done("stat", time.Now(), &err)
	return o.bucket.Stat(ctx, key)
}

func (o *observed) Put(ctx context.Context, key string, body io.Reader, opts PutOptions) (info Info, err error) {
	defer o.done("put", time.Now(), &err)
	return o.bucket.Put(ctx, key, &counted{body, nil, o.written}, opts)
}

func (o *observed) Delete(ctx context.Context, key string) (err error) {
	defer o.done("delete", time.Now(), &err)
	return o.bucket.Delete(ctx, key)
}

func (o *observed) Copy(ctx context.Context, from, to, sha256 string) (info Info, err error) {
	defer o.done("copy", time.Now(), &err)
	return o.bucket.Copy(ctx, from, to, sha256)
}

func (o *observed) List(ctx context.Context, folder, after string) iter.Seq2[Info, error] {
	return observe(o, "list", o.bucket.List(ctx, folder, after))
}

func (o *observed) Uploads(ctx context.Context, folder string) iter.Seq2[Upload, error] {
	return observe(o, "uploads", o.bucket.Uploads(ctx, folder))
}

func (o *observed) Parts(ctx context.Context, up Upload) iter.Seq2[Part, error] {
	return observe(o, "parts", o.bucket.Parts(ctx, up))
}

// observe counts an iteration as one operation, however early it is left.
func observe[T any](o *observed, operation string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var failed error
		defer o.done(operation, time.Now(), &failed)
		for v, err := range seq {
			failed = err
			if !yield(v, err) {
				return
			}
		}
	}
}

func (o *observed) Begin(ctx context.Context, key string, opts UploadOptions) (up Upload, err error) {
	defer o.done("begin", time.Now(), &err)
	return o.bucket.Begin(ctx, key, opts)
}

func (o *observed) Part(ctx context.Context, up Upload, number int, body io.Reader, opts PartOptions) (part Part, err error) {
	defer o.done("part", time.Now(), &err)
	return o.bucket.Part(ctx, up, number, &counted{body, nil, o.written}, opts)
}

func (o *observed) Complete(ctx context.Context, up Upload, parts []Part, cond Condition) (info Info, err error) {
	defer o.done("complete", time.Now(), &err)
	return o.bucket.Complete(ctx, up, parts, cond)
}

func (o *observed) Abort(ctx context.Context, up Upload) (err error) {
	defer o.done("abort", time.Now(), &err)
	return o.bucket.Abort(ctx, up)
}

func (o *observed) PresignGet(ctx context.Context, key string, expires time.Duration, fileName string) (address string, err error) {
	defer o.done("presign", time.Now(), &err)
	return o.bucket.PresignGet(ctx, key, expires, fileName)
}

func (o *observed) PresignPut(ctx context.Context, key string, expires time.Duration) (address string, err error) {
	defer o.done("presign", time.Now(), &err)
	return o.bucket.PresignPut(ctx, key, expires)
}

func (o *observed) PresignPart(ctx context.Context, up Upload, number int, size int64, expires time.Duration) (address string, err error) {
	defer o.done("presign", time.Now(), &err)
	return o.bucket.PresignPart(ctx, up, number, size, expires)
}

// counted counts the bytes of a body.
type counted struct {
	io.Reader
	io.Closer
	bytes prometheus.Counter
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(float64(n))
	return n, err
}

// countedAt counts the bytes of an object that is read at any place.
type countedAt struct {
	io.ReaderAt
	bytes prometheus.Counter
}

// ReadAt implements io.ReaderAt.
func (c countedAt) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.bytes.Add(float64(n))
	return n, err
}
