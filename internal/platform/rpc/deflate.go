package rpc

import (
	"compress/zlib"
	"io"
	"sync"

	"google.golang.org/grpc/encoding"
)

//nolint:gochecknoinits // gRPC's registry of compressors is global and may only be written while the program initialises
func init() { encoding.RegisterCompressor(deflate{}) }

// deflate is gRPC's "deflate" message compression, which is the zlib format;
// gRPC's C core and so its Python clients offer it, grpc-go does not.
type deflate struct{}

var deflateWriters, deflateReaders sync.Pool

func (deflate) Name() string { return "deflate" }

func (deflate) Compress(w io.Writer) (io.WriteCloser, error) {
	z, ok := deflateWriters.Get().(*zlib.Writer)
	if !ok {
		z = zlib.NewWriter(w)
	}
	z.Reset(w)
	return &deflateWriter{z}, nil
}

type deflateWriter struct{ *zlib.Writer }

// Close flushes the stream and gives the writer back; gRPC calls it once.
func (w *deflateWriter) Close() error {
	err := w.Writer.Close()
	deflateWriters.Put(w.Writer)
	return err
}

func (deflate) Decompress(r io.Reader) (io.Reader, error) {
	z, ok := deflateReaders.Get().(io.ReadCloser)
	if !ok {
		fresh, err := zlib.NewReader(r)
		return &deflateReader{fresh}, err
	}
	if err := z.(zlib.Resetter).Reset(r, nil); err != nil {
		deflateReaders.Put(z)
		return nil, err
	}
	return &deflateReader{z}, nil
}

type deflateReader struct{ zlib io.ReadCloser }

// Read gives the reader back at the end of the stream. A stream that fails
// leaves it to the garbage collector.
func (r *deflateReader) Read(p []byte) (int, error) {
	if r.zlib == nil {
		return 0, io.EOF
	}
	n, err := r.zlib.Read(p)
	if err == io.EOF {
		deflateReaders.Put(r.zlib)
		r.zlib = nil
	}
	return n, err
}
