package oip

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

const (
	// smallBody is what mostly arrives together with the header.
	smallBody = 4 << 10
	// firstRoom is the most memory that a request gets on its word alone: more
	// comes as the bytes do.
	firstRoom = 1 << 20
)

// readBody reads the whole body, decompressed, into a slab that the caller
// releases.
func (a *rest) readBody(c echo.Context) (*tensor.Slab, error) {
	r := c.Request()
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		return a.readWithin(c)
	}
	// Where the connection cannot have a deadline, the server's own holds.
	control := http.NewResponseController(c.Response())
	if control.SetReadDeadline(time.Now().Add(a.config.BodyTimeout)) != nil {
		return a.readWithin(c)
	}
	slab, err := a.readWithin(c)
	if err == nil {
		// The deadline must not outlast the body: it would end the request while
		// the model runs. After an error it stays, for what net/http still reads.
		_ = control.SetReadDeadline(time.Time{})
	}
	return slab, err
}

// readWithin reads the body within its limits of size.
func (a *rest) readWithin(c echo.Context) (*tensor.Slab, error) {
	r := c.Request()
	if r.ContentLength > a.config.MaxBody {
		return nil, a.tooLarge()
	}
	if encoding := r.Header["Content-Encoding"]; len(encoding) > 0 && encoding[0] != "" {
		return a.readEncoded(c, strings.Join(encoding, ","))
	}
	slab, err := readAll(r.Body, r.ContentLength, a.config.MaxBody)
	if err == nil {
		// net/http then need not look for more of it, which would allocate.
		_ = r.Body.Close()
	}
	return slab, a.bodyError(err)
}

var errTooLarge = errors.New("larger than the limit")

// readAll reads up to limit bytes. Of a stated length, no more is read; -1
// means until the end.
func readAll(r io.Reader, length, limit int64) (*tensor.Slab, error) {
	room := length
	if length < 0 {
		room = smallBody
	}
	slab := tensor.GetSlab(int(min(room, firstRoom)))
	for {
		b := slab.B[:cap(slab.B)]
		if length >= 0 {
			b = b[:min(int64(len(b)), length)]
		}
		n, err := fill(r, b[len(slab.B):])
		slab.B = b[:len(slab.B)+n]
		switch {
		case int64(len(slab.B)) == length:
			return slab, nil
		case int64(len(slab.B)) > limit:
			slab.Release()
			return nil, errTooLarge
		case length < 0 && errors.Is(err, io.EOF):
			return slab, nil
		case err != nil:
			slab.Release()
			return nil, err
		}
		slab = grow(slab)
	}
}

// fill is io.ReadFull without its translation of errors: the end of the stream
// is io.EOF wherever it comes, so that a decompressor's own io.ErrUnexpectedEOF
// is still seen for what it is.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	if n == len(b) && err == io.EOF {
		err = nil
	}
	return n, err
}

// grow returns a slab of twice the size with the same bytes.
func grow(s *tensor.Slab) *tensor.Slab {
	larger := tensor.GetSlab(2 * cap(s.B))
	larger.B = append(larger.B, s.B...)
	s.Release()
	return larger
}

func (a *rest) tooLarge() error {
	return fault.New(fault.TooLarge, "the request body is larger than the limit of %d bytes: send less at once, or raise %s",
		a.config.MaxBody, a.config.MaxBodyKey)
}

// bodyError classifies what went wrong while a body was read.
func (a *rest) bodyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge), fault.Is(err, fault.TooLarge): // the server has a limit, too
		return a.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Wrap(fault.DeadlineExceeded, err, "the request body did not arrive within %s", a.config.BodyTimeout).WithCode(codeSlowBody)
	}
	return fault.Wrap(fault.Canceled, err, "the request body ended early")
}

// inflater is a decompressor that can be used again.
type inflater interface {
	io.ReadCloser
	reset(io.Reader) error
}

type gunzip struct{ gzip.Reader }

func (g *gunzip) reset(r io.Reader) error { return g.Reset(r) }

type unzlib struct{ io.ReadCloser }

func (z *unzlib) reset(r io.Reader) (err error) {
	if z.ReadCloser == nil {
		z.ReadCloser, err = zlib.NewReader(r)
		return err
	}
	return z.ReadCloser.(zlib.Resetter).Reset(r, nil)
}

var (
	gunzips = sync.Pool{New: func() any { return new(gunzip) }}
	unzlibs = sync.Pool{New: func() any { return new(unzlib) }}
)

// readEncoded reads a compressed body. Its limit holds for both sides of the
// decompressor: neither a bomb nor an endless stream of nothing gets past it.
func (a *rest) readEncoded(c echo.Context, encoding string) (*tensor.Slab, error) {
	pool := &gunzips
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "identity":
		slab, err := readAll(c.Request().Body, c.Request().ContentLength, a.config.MaxBody)
		return slab, a.bodyError(err)
	case "gzip":
	case "deflate":
		pool = &unzlibs
	default:
		c.Response().Header().Set("Accept-Encoding", "gzip, deflate")
		return nil, fault.New(fault.Unsupported, "Content-Encoding %.40q is not supported: use gzip or deflate", encoding)
	}
	packed, err := readAll(c.Request().Body, c.Request().ContentLength, a.config.MaxBody)
	if err != nil {
		return nil, a.bodyError(err)
	}
	defer packed.Release()
	source := pool.Get().(inflater)
	defer pool.Put(source)
	var slab *tensor.Slab
	if err = source.reset(bytes.NewReader(packed.B)); err == nil {
		slab, err = readAll(source, -1, a.config.MaxBody)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return nil, a.tooLarge()
	case err != nil:
		return nil, fault.New(fault.Invalid, "the request body is not %s data as its Content-Encoding says: %s", encoding, err)
	}
	return slab, nil
}
