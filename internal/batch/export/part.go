package export

import (
	"context"
	"errors"
	"path"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/table"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// part is a file that is written, straight into its object. Whoever takes the bytes
// digests them, beside who encodes the next.
type part struct {
	Rows   int64
	key    string
	writer table.Writer
	pipe   *blob.PipeWriter
	bytes  int64
	put    chan error // the outcome of the object
	info   blob.Info  // once put has been read
	failed error      // what put said, if it said something too early
}

// newPart opens a part; its object is seen once it is closed.
func newPart(ctx context.Context, bucket blob.Writer, key string, p *plan) (*part, error) {
	r, w := blob.Pipe()
	o := &part{key: key, pipe: w, put: make(chan error, 1)}
	go func() {
		var err error
		o.info, err = bucket.Put(ctx, key, r, blob.PutOptions{UploadOptions: blob.UploadOptions{ContentType: p.options.MediaType()}})
		_ = r.CloseWithError(errors.Join(errPut, err)) // who writes on must not wait for ever
		o.put <- err
	}()
	var err error
	if o.writer, err = encode.New(o, p.schema, p.options); err != nil {
		o.abort(err)
	}
	return o, err
}

// errPut says that nobody takes the bytes any more.
var errPut = errors.New("the object has ended")

// Write implements io.Writer for the encoder.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.pipe.Write(b)
	p.bytes += int64(n)
	return n, err
}

// Bytes returns how many bytes have been written.
func (p *part) Bytes() int64 { return p.bytes }

// close ends the file, and returns what it is once the object has it.
func (p *part) close() (Part, error) {
	if err := p.writer.Close(); err != nil {
		err = p.why(err)
		p.abort(err)
		return Part{}, err
	}
	_ = p.pipe.CloseWithError(nil) // never fails
	if err := <-p.put; err != nil {
		return Part{}, err
	}
	if p.info.Size != p.bytes {
		return Part{}, fault.New(fault.Unavailable, "the object has %d bytes where %d were written", p.info.Size, p.bytes).WithCode("export_short")
	}
	return Part{Name: path.Base(p.key), Object: p.key, Rows: p.Rows, Bytes: p.bytes, SHA256: p.info.SHA256}, nil
}

// abort leaves no object.
func (p *part) abort(err error) {
	_ = p.pipe.CloseWithError(err) // never fails
	if p.failed == nil {
		p.failed = errors.Join(err, <-p.put)
	}
}

// why returns why a write failed: what the object said, rather than that it ended.
func (p *part) why(err error) error {
	if !errors.Is(err, errPut) {
		return err
	}
	if p.failed == nil {
		p.failed = <-p.put
	}
	if p.failed == nil {
		p.failed = err
	}
	return p.failed
}
