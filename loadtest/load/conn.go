package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Answer is a response. Body is valid until the connection's next request.
type Answer struct {
	Status int
	// HeaderLength is the value of Inference-Header-Content-Length, -1 if the
	// answer has none.
	HeaderLength int
	Body         []byte
	// First is when the first event was there, of an answer that has events.
	First time.Time
	// Timing is what the server says of it.
	Timing Timing
	// Redialled says that the server had closed the connection while it was idle,
	// and that the request was sent again over another.
	Redialled bool
}

// conn is one keep-alive connection over HTTP/1.1.
type conn struct {
	addr string
	buf  []byte

	mu    sync.Mutex // guards writes of the fields below, and SetLimit
	tcp   net.Conn   // nil where it must be dialled again
	limit time.Time  // of every read and write
}

const (
	dialTimeout = 5 * time.Second
	maxHeader   = 64 << 10
	maxChunked  = 64 << 20
)

// errIdleClosed says that the server closed the connection instead of
// answering, without a byte: it may do so while a connection is idle.
var errIdleClosed = errors.New("the connection was closed instead of an answer")

// errUnreachable says that nobody took the connection: nothing was sent.
var errUnreachable = errors.New("the server does not take connections")

// Do sends a request and reads its answer. Like every HTTP client it dials
// again, once, where the server has closed the connection while it was idle.
func (c *conn) Do(r *Request) (Answer, error) { return c.do(r.Wire, c.exchange) }

// do has a request exchanged for its answer, after dialling where that is needed.
func (c *conn) do(wire []byte, exchange func(wire []byte) (Answer, error)) (Answer, error) {
	redialled := false
	if c.tcp != nil {
		a, err := exchange(wire)
		if !errors.Is(err, errIdleClosed) {
			return a, err
		}
		redialled = true
	}
	if err := c.dial(); err != nil {
		return Answer{Redialled: redialled}, err
	}
	a, err := exchange(wire)
	a.Redialled = redialled
	return a, err
}

func (c *conn) exchange(wire []byte) (Answer, error) {
	if err := c.write(wire); err != nil {
		c.Close()
		return Answer{}, err
	}
	a, keep, err := c.read()
	if err != nil || !keep {
		c.Close()
	}
	return a, err
}

func (c *conn) write(wire []byte) error {
	_, err := c.tcp.Write(wire)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET):
		return errIdleClosed
	}
	return fmt.Errorf("write: %w", err)
}

// unanswered names the error of a read that got no byte of an answer.
func unanswered(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return errIdleClosed
	}
	return fmt.Errorf("read: %w", err)
}

func (c *conn) dial() error {
	tcp, err := net.DialTimeout("tcp", c.addr, dialTimeout)
	if err != nil {
		return errors.Join(errUnreachable, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := tcp.SetDeadline(c.limit); err != nil {
		tcp.Close()
		return err
	}
	c.tcp = tcp
	return nil
}

// SetLimit sets the time at which whatever is in progress fails.
func (c *conn) SetLimit(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = t
	if c.tcp == nil {
		return nil
	}
	return c.tcp.SetDeadline(t)
}

// Close closes the connection; the next request opens another.
func (c *conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tcp != nil {
		c.tcp.Close()
		c.tcp = nil
	}
}

// read reads one answer and reports whether the connection can go on.
func (c *conn) read() (Answer, bool, error) {
	n, end := 0, -1
	for end < 0 {
		if n == len(c.buf) {
			if n >= maxHeader {
				return Answer{}, false, fmt.Errorf("answer header is longer than %d bytes", maxHeader)
			}
			c.grow(2 * n)
		}
		m, err := c.tcp.Read(c.buf[n:])
		switch {
		case err == nil:
		case n == 0:
			return Answer{}, false, unanswered(err)
		default:
			return Answer{}, false, fmt.Errorf("read: %w", err)
		}
		from := max(n-3, 0) // the blank line may span two reads
		n += m
		if i := bytes.Index(c.buf[from:n], []byte("\r\n\r\n")); i >= 0 {
			end = from + i + 4
		}
	}
	h, err := parseHeader(c.buf[:end])
	if err != nil {
		return Answer{}, false, err
	}
	if h.chunked {
		return c.readChunks(h, end, n)
	}
	total := end + h.length
	if n > total {
		return Answer{}, false, fmt.Errorf("%d bytes follow the answer", n-total)
	}
	if total > len(c.buf) {
		c.grow(total)
	}
	for n < total {
		m, err := c.tcp.Read(c.buf[n:total])
		if err != nil {
			return Answer{}, false, fmt.Errorf("read: answer ends after %d of %d body bytes: %w", n-end, h.length, err)
		}
		n += m
	}
	return Answer{Status: h.status, HeaderLength: h.inference, Body: c.buf[end:total], Timing: h.timing}, !h.close, nil
}

// readChunks reads the body of an answer that comes in chunks, of which there is
// as much in the buffer as lies between from and to. It allocates.
func (c *conn) readChunks(h header, from, to int) (Answer, bool, error) {
	wire := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(c.buf[from:to])), c.tcp))
	body, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(wire), maxChunked))
	if err == nil && len(body) == maxChunked {
		err = fmt.Errorf("the answer has more than %d bytes", maxChunked-1)
	}
	if err == nil && h.inference > len(body) {
		err = fmt.Errorf("inference header of %d bytes in a body of %d", h.inference, len(body))
	}
	if err == nil { // the blank line behind the last chunk; fields there are nobody's
		var line string
		if line, err = wire.ReadString('\n'); err == nil && strings.TrimSpace(line) != "" {
			err = fmt.Errorf("%.40q follows the last chunk, expected a blank line", line)
		}
	}
	if err != nil {
		return Answer{}, false, fmt.Errorf("read: %w", err)
	}
	return Answer{Status: h.status, HeaderLength: h.inference, Body: body, Timing: h.timing}, !h.close, nil
}

func (c *conn) grow(size int) {
	buf := make([]byte, max(size, 4096))
	copy(buf, c.buf)
	c.buf = buf
}

type header struct {
	status    int
	length    int // of the body
	inference int // -1: not given
	close     bool
	chunked   bool
	timing    Timing
}

// parseHeader reads the status line and the few fields that matter here.
func parseHeader(b []byte) (header, error) {
	const version = "HTTP/1.1 "
	h := header{length: -1, inference: -1}
	if len(b) < len(version)+3 || string(b[:len(version)]) != version {
		return h, fmt.Errorf("not an HTTP/1.1 answer: %.40q", b)
	}
	var ok bool
	if h.status, ok = decimal(b[len(version) : len(version)+3]); !ok {
		return h, fmt.Errorf("no status in %.40q", b)
	}
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			break
		}
		line := bytes.TrimSuffix(b[:end], []byte("\r"))
		b = b[end+1:]
		ok = true
		if v, found := field(line, "Content-Length:"); found {
			h.length, ok = decimal(v)
		} else if v, found := field(line, "Inference-Header-Content-Length:"); found {
			h.inference, ok = decimal(v)
		} else if v, found := field(line, "Connection:"); found {
			h.close = bytes.EqualFold(v, []byte("close"))
		} else if v, found := field(line, "Transfer-Encoding:"); found {
			h.chunked = bytes.EqualFold(v, []byte("chunked"))
		} else if v, found := field(line, "Server-Timing:"); found {
			h.timing = parseTiming(v)
		}
		if !ok {
			return h, fmt.Errorf("malformed field %q", line)
		}
	}
	if h.length < 0 && !h.chunked {
		return h, errors.New("the answer has neither Content-Length nor chunks")
	}
	if h.inference > h.length && !h.chunked {
		return h, fmt.Errorf("inference header of %d bytes in a body of %d", h.inference, h.length)
	}
	return h, nil
}

// field returns the value of a header line with the name, colon included.
func field(line []byte, name string) ([]byte, bool) {
	if len(line) < len(name) || line[len(name)-1] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

// decimal reads a number of at most nine digits.
func decimal(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// statusError describes an answer that is neither a success nor a refusal.
func statusError(a Answer) error {
	return errors.New("status " + strconv.Itoa(a.Status) + ": " + string(a.Body[:min(len(a.Body), 200)]))
}
