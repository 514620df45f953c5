package ingest

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"sluice/internal/platform/fault"
)

// Source is a file as it is kept.
type Source interface {
	// Open returns the bytes from offset on.
	Open(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Random is a Source that can be read at any place, which takes what is not text.
type Random interface {
	Source
	// File returns the bytes and how many there are. Reads end with ctx.
	File(ctx context.Context) (io.ReaderAt, int64, error)
}

// Followed is a reader of a file that is told how far the reading of a workbook has come,
// which is less than what has been read ahead.
type Followed interface {
	Reached(offset int64)
}

// Coding says how a text file's content is wrapped.
type Coding struct {
	Compression string `json:"compression,omitempty"` // gzip, zstd; empty: none
	Encoding    string `json:"encoding,omitempty"`    // utf-16le, utf-16be, windows-1252, iso-8859-1; empty: UTF-8
	Mark        int    `json:"mark,omitempty"`        // bytes of the byte order mark before UTF-8
}

// Inflation bounds what compressed content may become.
type Inflation struct {
	Max   int64 // bytes; default 20 GiB
	Ratio int64 // bytes for each compressed one, beyond the first 64 MiB; default 1000
}

func (l Inflation) withDefaults() Inflation {
	if l.Max <= 0 {
		l.Max = 20 << 30
	}
	if l.Ratio <= 0 {
		l.Ratio = 1000
	}
	return l
}

// The encodings that are read beside UTF-8.
var encodings = map[string]encoding.Encoding{
	"utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), "utf-16be": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"windows-1252": charmap.Windows1252, "iso-8859-1": charmap.ISO8859_1,
}

// stream is decoded content.
type stream struct {
	io.Reader
	close func() error
}

func (s stream) Close() error { return s.close() }

// wrapped says whether content has to be decoded, from its beginning on.
func (c Coding) wrapped() bool { return c.Compression != "" || c.Encoding != "" }

// open returns the decoded content from an offset in it on.
func (c Coding) open(ctx context.Context, src Source, offset int64, limit Inflation) (io.ReadCloser, error) {
	if !c.wrapped() {
		return src.Open(ctx, offset+int64(c.Mark))
	}
	body, err := src.Open(ctx, 0)
	if err != nil {
		return nil, err
	}
	r, free, err := c.decode(body, limit.withDefaults())
	if err == nil {
		_, err = io.CopyN(io.Discard, r, offset+int64(c.Mark))
	}
	if err != nil {
		free()
		return nil, errors.Join(damaged(err), body.Close())
	}
	return stream{r, func() error { free(); return body.Close() }}, nil
}

// maxWindow is how much of the content a decoder of zstd may have to hold, in bytes.
const maxWindow = 64 << 20

// decode unwraps the content.
func (c Coding) decode(body io.Reader, limit Inflation) (r io.Reader, free func(), err error) {
	r, free = body, func() {}
	if c.Compression != "" {
		raw := &counting{r: body}
		switch c.Compression {
		case "gzip":
			var z *gzip.Reader
			if z, err = gzip.NewReader(raw); err != nil {
				return nil, free, err
			}
			r = z
		default:
			var z *zstd.Decoder
			if z, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
				return nil, free, err
			}
			r, free = z, z.Close
		}
		r = &inflating{r: r, raw: raw, limit: limit}
	}
	if e, ok := encodings[c.Encoding]; ok {
		r = e.NewDecoder().Reader(r)
	}
	return r, free, nil
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// inflating stops at what is more than the limit allows.
type inflating struct {
	r     io.Reader
	raw   *counting
	n     int64
	limit Inflation
}

// free is how much may come of however little.
const free = 64 << 20

func (i *inflating) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	i.n += int64(n)
	switch {
	case i.n > i.limit.Max:
		return 0, fault.New(fault.Unprocessable, "the file inflates to more than %d bytes", i.limit.Max).WithCode("file_too_large")
	case i.n > free && i.n/max(i.raw.n, 1) > i.limit.Ratio:
		return 0, fault.New(fault.Unprocessable, "the file inflates to more than %d times its size", i.limit.Ratio).WithCode("file_inflates")
	case err != nil && !errors.Is(err, io.EOF):
		return n, damaged(err)
	}
	return n, err
}

// damaged says that content cannot be decoded.
func damaged(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fault.Wrap(fault.Unprocessable, err, "the file is compressed with a window of more than %d bytes: compress it without a long window", maxWindow).WithCode(codeDamaged)
	}
	return fault.Wrap(fault.Unprocessable, err, "the file is damaged or incomplete: %s", fault.Clip(err.Error(), 200)).WithCode(codeDamaged)
}

// codeDamaged is the code of a file that cannot be decoded, at least from some place on.
const codeDamaged = "file_damaged"

// sniff tells how content that begins so is wrapped. An encoding that is known
// already is kept.
func sniff(ctx context.Context, src Source, known string, limit Inflation) (Coding, []byte, error) {
	body, err := src.Open(ctx, 0)
	if err != nil {
		return Coding{}, nil, err
	}
	defer body.Close()
	start := make([]byte, 4)
	n, err := io.ReadFull(body, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Coding{}, nil, err
	}
	start = start[:n]
	c := Coding{Compression: compression(start)}
	plain, free, err := c.decode(io.MultiReader(bytes.NewReader(start), body), limit.withDefaults())
	if err != nil {
		return c, nil, damaged(err)
	}
	defer free()
	head, err := readHead(plain, headSize)
	if err != nil {
		return c, nil, err
	}
	c.Encoding, c.Mark = markOf(head)
	if known != "" && known != "utf-8" {
		c.Encoding = known
	}
	head = head[min(c.Mark, len(head)):]
	if e, ok := encodings[c.Encoding]; ok {
		// A mark in UTF-16 is three bytes of UTF-8 once it is decoded.
		text, err := e.NewDecoder().Bytes(head)
		if err != nil {
			return c, nil, damaged(err)
		}
		head, c.Mark = text, 0
		if rest, marked := bytes.CutPrefix(text, []byte("\ufeff")); marked {
			head, c.Mark = rest, 3
		}
	}
	return c, head, nil
}

// compression tells how content that begins so is compressed; empty: it is not.
func compression(start []byte) string {
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(start) >= 4 && start[0]&0xf0 == 0x50 && string(start[1:4]) == "\x2a\x4d\x18": // a frame to be skipped, as pzstd begins
		return "zstd"
	}
	return ""
}

// headSize is how much of the content is looked at to tell its form, in bytes.
const headSize = 256 << 10

func readHead(r io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, size); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b.Bytes(), nil
}

// markOf tells an encoding by its byte order mark, and without one UTF-16 by every
// other byte of the first being NUL. The mark's size is that of UTF-8 only: others
// are decoded with the text.
func markOf(head []byte) (name string, size int) {
	switch {
	case bytes.HasPrefix(head, []byte("\ufeff")):
		return "", 3
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return "utf-16le", 0
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "utf-16be", 0
	case len(head) >= 4 && head[0] != 0 && head[1] == 0 && head[2] != 0 && head[3] == 0:
		return "utf-16le", 0
	case len(head) >= 4 && head[0] == 0 && head[1] != 0 && head[2] == 0 && head[3] != 0:
		return "utf-16be", 0
	}
	return "", 0
}
