package oip

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

const (
	// smallBody is what mostly arrives together with the header.
	smallBody = 4 << 10
	// firstRoom is the most memory that a request gets on its word alone: more
	// comes as the bytes do.
	firstRoom = 1 << 20
)

// readBody reads the whole body, decompressed, into a slab that the caller
// releases and that counts in the account.
func (a *rest) readBody(c echo.Context, account *budget.Account) (*tensor.Slab, error) {
	r := c.Request()
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		return a.readWithin(c, account)
	}
	// Where the connection cannot have a deadline, the server's own holds.
	control := http.NewResponseController(c.Response())
	if control.SetReadDeadline(time.Now().Add(a.config.BodyTimeout)) != nil {
		return a.readWithin(c, account)
	}
	slab, err := a.readWithin(c, account)
	if err == nil {
		// The deadline must not outlast the body: it would end the request while
		// the model runs. After an error it stays, for what net/http still reads.
		_ = control.SetReadDeadline(time.Time{})
	}
	return slab, err
}

// readWithin reads the body within its limits of size.
func (a *rest) readWithin(c echo.Context, account *budget.Account) (*tensor.Slab, error) {
	r := c.Request()
	if r.ContentLength > a.config.MaxBody {
		return nil, a.tooLarge()
	}
	if encoding := r.Header["Content-Encoding"]; len(encoding) > 0 && encoding[0] != "" {
		return a.readEncoded(r, c.Response().Header(), strings.Join(encoding, ","), account)
	}
	return a.readPlain(r, account)
}

// readPlain reads the body as it comes.
func (a *rest) readPlain(r *http.Request, account *budget.Account) (*tensor.Slab, error) {
	slab, err := readAll(r.Body, r.ContentLength, a.config.MaxBody, account)
	if err == nil {
		// net/http then need not look for more of it, which would allocate.
		_ = r.Body.Close()
	}
	return slab, a.bodyError(r, err)
}

var errTooLarge = errors.New("larger than the limit")

// readAll reads up to limit bytes. Of a stated length, no more is read; -1
// means until the end.
func readAll(r io.Reader, length, limit int64, account *budget.Account) (*tensor.Slab, error) {
	room := length
	if length < 0 {
		room = smallBody
	}
	room = min(room, firstRoom)
	slab, err := getSlab(account, room)
	if err != nil {
		return nil, err
	}
	for {
		b := slab.B[:cap(slab.B)]
		if length >= 0 {
			b = b[:min(int64(len(b)), length)]
		} else {
			b = b[:min(int64(len(b)), limit)]
		}
		n, err := fill(r, b[len(slab.B):])
		slab.B = b[:len(slab.B)+n]
		switch {
		case int64(len(slab.B)) == length, length < 0 && errors.Is(err, io.EOF):
			return slab, nil
		case err == nil && int64(len(slab.B)) == limit: // the end must follow
			if n, err = fill(r, make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
				return slab, nil
			} else if n > 0 {
				err = errTooLarge
			}
		case err == nil:
			next := 2 * int64(cap(slab.B))
			if length >= 0 {
				next = min(next, length)
			}
			if slab, err = grow(account, slab, room, next); err == nil {
				room = next
				continue
			}
		}
		putSlab(account, slab, room)
		return nil, err
	}
}

// getSlab returns a slab with room for n bytes, which count in the account.
func getSlab(account *budget.Account, n int64) (*tensor.Slab, error) {
	if err := account.Acquire(n); err != nil {
		return nil, err
	}
	return tensor.GetSlab(int(n)), nil
}

// putSlab releases a slab that was got with room for n bytes.
func putSlab(account *budget.Account, s *tensor.Slab, n int64) {
	s.Release()
	account.Return(n)
}

// grow exchanges a slab for a larger one with the same bytes; on an error it
// returns the slab as it was.
func grow(account *budget.Account, s *tensor.Slab, from, to int64) (*tensor.Slab, error) {
	larger, err := getSlab(account, to)
	if err != nil {
		return s, err
	}
	larger.B = append(larger.B, s.B...)
	putSlab(account, s, from)
	return larger, nil
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

func (a *rest) tooLarge() error { return web.TooLarge(a.config.MaxBody, a.config.MaxBodyKey) }

// bodyError classifies what went wrong while a body was read.
func (a *rest) bodyError(r *http.Request, err error) error {
	known, isFault := errors.AsType[*fault.Error](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge):
		return a.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Wrap(fault.DeadlineExceeded, err, "the request body did not arrive within %s", a.config.BodyTimeout).WithCode(web.CodeSlowBody)
	case isFault: // the server's own limits
		return known
	case r.ProtoMajor == 1 && !network && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && r.Context().Err() == nil:
		return fault.Wrap(fault.Invalid, err, "the request body's chunks are malformed: %s", err)
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
func (a *rest) readEncoded(r *http.Request, answer http.Header, encoding string, account *budget.Account) (*tensor.Slab, error) {
	pool := &gunzips
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "identity":
		return a.readPlain(r, account)
	case "gzip":
	case "deflate":
		pool = &unzlibs
	default:
		answer.Set("Accept-Encoding", "gzip, deflate")
		return nil, fault.New(fault.Unsupported, "Content-Encoding %.40q is not supported: use gzip or deflate", encoding)
	}
	before := account.Held()
	packed, err := a.readPlain(r, account)
	if err != nil {
		return nil, err
	}
	size := account.Held() - before
	defer putSlab(account, packed, size)
	source := pool.Get().(inflater)
	defer pool.Put(source)
	var slab *tensor.Slab
	if err = source.reset(bytes.NewReader(packed.B)); err == nil {
		slab, err = readAll(source, -1, a.config.MaxBody, account)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return nil, a.tooLarge()
	case fault.Is(err, fault.Unavailable):
		return nil, err
	case err != nil:
		return nil, fault.New(fault.Invalid, "the request body is not %s data as its Content-Encoding says: %s", encoding, err)
	}
	return slab, nil
}
