package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// refusing has a route that refuses all requests from their heads, and one that works.
func refusing(e *echo.Echo) {
	echoBody(e)
	e.Match([]string{"POST", "HEAD"}, "/full", func(echo.Context) error {
		return fault.New(fault.Unavailable, "there is too much to do").WithRetryAfter(time.Second)
	})
	e.POST("/written", func(c echo.Context) error {
		res, whole := c.Response(), c.Response().Writer
		defer func() { res.Writer = whole }()
		res.Writer = Refusals(c)
		return c.String(http.StatusForbidden, "the handler's own answer")
	})
	e.POST("/private", func(echo.Context) error { return access.ErrNoCredential })
}

// startRefusing runs a server of refusing. At the end it waits for the connections: net/http
// holds each that it closes over unread bytes for half a second.
func startRefusing(t *testing.T, change func(*Config)) *bed {
	b := start(t, change, refusing)
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // t's has ended
		defer cancel()
		wait(ctx, func() bool { return b.listener.open.Load() == 0 })
	})
	return b
}

// post sends a request's head and so much of a body that it says to be n bytes.
func post(t *testing.T, c net.Conn, path string, n, sent int, more string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", path, n, more, strings.Repeat("x", sent)); err != nil {
		t.Fatalf("%d bytes of %d cannot be sent: %v", sent, n, err)
	}
}

// answer reads an answer and all of its body.
func answer(t *testing.T, r *bufio.Reader) (status int, closes bool) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Close
}

// Whoever sends everything before looking at the answer sees it, however much it is. The
// connection is kept where no more is left than net/http would read.
func TestRefusedBeforeTheBodyIsRead(t *testing.T) {
	b := startRefusing(t, func(c *Config) { c.MaxBody = 32 << 20 })
	for path, want := range map[string]int{"/full": 503, "/written": 403} {
		for _, n := range []int{1, 4000, 64 << 10, skipFirst, skipFirst + 1, 32 << 20} {
			c := b.dial()
			r := bufio.NewReader(c)
			post(t, c, path, n, n, "")
			status, closes := answer(t, r)
			if status != want || closes != (n > skipFirst) {
				t.Errorf("%d bytes to %s: %d, the connection is closed: %v", n, path, status, closes)
			}
			if closes {
				silent(t, c, r)
				continue
			}
			post(t, c, "/echo", 5, 5, "")
			if status, _ := answer(t, r); status != 200 {
				t.Errorf("behind %d bytes to %s: %d", n, path, status)
			}
		}
	}
}

// Whoever looks while sending, or before, need not send it all. The place of the request
// is free meanwhile.
func TestRefusedFromTheHead(t *testing.T) {
	b := startRefusing(t, func(c *Config) { c.MaxInFlight = 1 })
	for _, more := range []string{"", "Expect: 100-continue\r\n"} {
		c := b.dial()
		post(t, c, "/full", 1<<20, 0, more)
		if status, closes := answer(t, bufio.NewReader(c)); status != 503 || !closes {
			t.Errorf("%q: %d, the connection is closed: %v", more, status, closes)
		}
		if resp, _ := b.do(b.request("POST", "/echo", strings.NewReader("x"))); resp.StatusCode != 200 {
			t.Errorf("while the refused client may still send: %d", resp.StatusCode)
		}
		c.Close()
	}
}

// Go's client looks at the answer while it sends, and leaves the connection then: it gets
// the answer each time.
func TestRefusedGoClient(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxBody = 32 << 20 }, refusing)
	for range 50 {
		resp, err := b.client.Do(b.request("POST", "/full", strings.NewReader(strings.Repeat("x", 4<<20))))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
			t.Fatalf("%s, again after %q s: %v", resp.Status, resp.Header.Get("Retry-After"), err)
		}
	}
}

// Beyond a number of clients that are still sending, others are answered all the same.
func TestRefusedManyAtATime(t *testing.T) {
	b := startRefusing(t, nil)
	for i := range maxLingering + 10 {
		c := b.dial()
		defer c.Close()
		post(t, c, "/full", 1<<20, 0, "")
		if status, closes := answer(t, bufio.NewReader(c)); status != 503 || !closes {
			t.Fatalf("client %d: %d, the connection is closed: %v", i, status, closes)
		}
	}
}

// smuggled is a request that stands where the rest of a body is expected.
const smuggled = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nsmuggled"

// silent sends requests for as long as the connection takes them: no other answer may come.
func silent(t *testing.T, c net.Conn, r io.Reader) {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		rest, _ := io.ReadAll(r) // until the server closes, by FIN or RST, or 20 s are over
		got <- string(rest)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case rest := <-got:
			if rest != "" {
				t.Errorf("answered again: %q", rest)
			}
			return
		case <-tick.C:
			_, _ = io.WriteString(c, smuggled) // fails once the server has closed
		}
	}
}

// What comes behind a body that was not read to its end is never taken for a request: not
// behind malformed chunks, not once the wait for the rest is over, whatever the answer.
func TestRefusedBodiesHideNoRequest(t *testing.T) {
	b := startRefusing(t, func(c *Config) { c.ReadTimeout = 100 * time.Millisecond })
	chunked := "Transfer-Encoding: chunked\r\n\r\n"
	long := func(stated, sent int) string {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", stated, strings.Repeat("x", sent))
	}
	for name, body := range map[string]string{
		"malformed chunks":      chunked + "zz\r\n" + smuggled,
		"malformed later":       chunked + "5\r\nhello\r\nzz\r\n" + smuggled,
		"malformed trailer":     chunked + "5\r\nhello\r\n0\r\nzz\r\n\r\n" + smuggled,
		"malformed behind":      chunked + "50000\r\n" + strings.Repeat("x", 0x50000) + "\r\nzz\r\n" + smuggled,
		"chunks that stop":      chunked + "50000\r\n" + strings.Repeat("x", 0x4fff0) + smuggled,
		"short, stops":          long(200<<10, 100),
		"long, stops":           long(300<<10, 200<<10),
		"longer than allowed":   long(2<<20, 100),
		"asks first, and sends": "Expect: 100-continue\r\n" + long(200<<10, 0) + smuggled,
	} {
		for path, want := range map[string]int{"/full": 503, "/written": 403, "/private": 401, "/nowhere": 404, "/echo": 0} {
			for _, head := range []string{"POST %s HTTP/1.1\r\n", "HEAD %s HTTP/1.1\r\n", "POST %s HTTP/1.0\r\nConnection: keep-alive\r\n"} {
				switch {
				case strings.Contains(head, "1.0") && strings.Contains(body, chunked), // has no chunks
					strings.HasPrefix(head, "HEAD") && path != "/full",
					strings.HasPrefix(body, "Expect") && path == "/echo": // is asked for it
					continue
				}
				t.Run(name+" "+fmt.Sprintf(head, path), func(t *testing.T) {
					t.Parallel()
					c := b.dial()
					go func() { _, _ = io.WriteString(c, fmt.Sprintf(head, path)+"Host: localhost\r\n"+body) }()
					r := bufio.NewReader(c)
					method, _, _ := strings.Cut(head, " ")
					resp, err := http.ReadResponse(r, &http.Request{Method: method})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadAll(resp.Body); err != nil {
						t.Fatal(err)
					}
					status := want
					if want == 0 { // it is read, which fails
						status = resp.StatusCode
					}
					if name == "longer than allowed" {
						status = 413
					}
					if resp.StatusCode != status || status < 400 || !resp.Close {
						t.Errorf("%d, the connection is closed: %v", resp.StatusCode, resp.Close)
					}
					silent(t, c, r)
				})
			}
		}
	}
}

// Requests that were sent at once are answered in turn where the bodies are whole.
func TestRefusedInAPipeline(t *testing.T) {
	b := startRefusing(t, nil)
	for _, body := range []string{
		"Content-Length: 5\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n",
	} {
		c := b.dial()
		request := "POST /full HTTP/1.1\r\nHost: localhost\r\n" + body
		if _, err := io.WriteString(c, request+request+smuggled); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		for _, want := range []int{503, 503, 200} {
			if status, closes := answer(t, r); status != want || closes {
				t.Errorf("%d, want %d, the connection is closed: %v", status, want, closes)
			}
		}
	}
}

// A client that sends nothing of a small body holds no place.
func TestRefusedTakesNoPlace(t *testing.T) {
	b := startRefusing(t, func(c *Config) { c.MaxInFlight = 1 })
	for range 3 {
		post(t, b.dial(), "/private", 100, 0, "")
	}
	waitFor(t, func() bool { return b.inFlight.Load() == 3 && b.places.Load() == 0 })
	if resp, _ := b.do(b.request("POST", "/echo", strings.NewReader("x"))); resp.StatusCode != 200 {
		t.Errorf("beside clients that are refused: %d", resp.StatusCode)
	}
}

// BenchmarkRefused refuses a request of 64 KiB over a connection that is kept.
func BenchmarkRefused(b *testing.B) {
	cfg := testConfig()
	s, err := New(cfg, refusing)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Listen(b.Context()); err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Run(b.Context()) }()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	wire := fmt.Appendf(nil, "POST /full HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", 64<<10, strings.Repeat("x", 64<<10))
	room := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(wire); err != nil {
			b.Fatal(err)
		}
		if n, err := c.Read(room); err != nil || !strings.Contains(string(room[:n]), " 503 ") {
			b.Fatal(string(room[:n]), err)
		}
	}
}
