package encode

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Accepted is the value of Accept-Encoding in an answer that refuses a request's
// coding (RFC 9110, 15.5.16).
const Accepted = "gzip, br, zstd"

// decoder is a decompressor that can be used again.
type decoder interface {
	io.Reader
	Reset(r io.Reader) error
}

var decoders = map[string]*sync.Pool{
	Gzip:   {New: func() any { return new(gzip.Reader) }},
	Brotli: {New: func() any { return brotli.NewReader(nil) }},
	Zstd: {New: func() any {
		r, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		return r
	}},
}

// Inflate returns the body of a request without the coding of its
// Content-Encoding header. It reads at most limit bytes of content, whatever
// their compressed size; key names the setting that raises the limit. Close it
// for its decompressor to be used again; that closes body, too.
func Inflate(body io.ReadCloser, contentEncoding []string, limit int64, key string) (io.ReadCloser, error) {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(contentEncoding, ",")))
	capped := &content{body: body, from: body, left: limit, limit: limit, key: key}
	switch coding {
	case "", "identity":
		return capped, nil
	case "x-gzip":
		coding = Gzip
	}
	pool, ok := decoders[coding]
	if !ok {
		return nil, fault.New(fault.Unsupported, "the content coding %.40q is not supported: send %s, or the body as it is", coding, Accepted).
			WithCode(web.CodeUnsupportedMediaType)
	}
	capped.coding, capped.pool = coding, pool
	return capped, nil
}

// content is a body's content within its limit.
type content struct {
	body        io.ReadCloser
	from        io.Reader // the decoder, or the body itself
	coding      string
	pool        *sync.Pool // nil without a coding
	dec         decoder    // nil until the first read
	left, limit int64
	key         string
	err         error // sticky
}

// Read reads content.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.pool != nil && c.dec == nil {
		if c.err = c.start(); c.err != nil {
			return 0, c.err
		}
	}
	if int64(len(p))-1 > c.left {
		p = p[:c.left+1] // one more than allowed tells content that is too large
	}
	n, err := c.from.Read(p)
	if int64(n) > c.left {
		n, err = int(c.left), web.TooLarge(c.limit, c.key)
	}
	c.left -= int64(n)
	c.err = c.explain(err)
	return n, c.err
}

func (c *content) start() error {
	c.dec = c.pool.Get().(decoder)
	c.from = c.dec
	return c.explain(c.dec.Reset(c.body)) // gzip reads its header here
}

// explain tells what is wrong with compressed data. What the body says itself,
// that it is too large or slow, stays.
func (c *content) explain(err error) error {
	if err == nil || err == io.EOF || c.pool == nil { //nolint:errorlint // exactly the end, as readers report it
		return err
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(fault.Invalid, err, "the body is not valid %s: send it whole and unchanged, or without a Content-Encoding", c.coding).
		WithCode("malformed_encoding")
}

// Close gives the decompressor back and closes the body.
func (c *content) Close() error {
	if c.dec != nil {
		_ = c.dec.Reset(strings.NewReader("")) // forget the body; the error says that this one is empty
		c.pool.Put(c.dec)
		c.dec, c.from, c.err = nil, nil, errClosed
	}
	return c.body.Close()
}

var errClosed = errors.New("read of a closed body")
