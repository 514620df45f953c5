package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

// refusing has a route that refuses all requests from their heads, and one that works.
func refusing(e *echo.Echo) {
	echoBody(e)
	e.POST("/full", func(echo.Context) error {
		return fault.New(fault.Unavailable, "there is too much to do").WithRetryAfter(time.Second)
	})
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

// Whoever sends everything before looking at the answer sees it, however much it is.
func TestRefusedBeforeTheBodyIsRead(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxBody = 32 << 20 }, refusing)
	for _, n := range []int{1, 4000, 64 << 10, skipFirst, skipFirst + 1, 32 << 20} {
		c := b.dial()
		r := bufio.NewReader(c)
		post(t, c, "/full", n, n, "")
		status, closes := answer(t, r)
		if status != 503 || closes {
			t.Errorf("%d bytes: %d, the connection is closed: %v", n, status, closes)
		}
		post(t, c, "/echo", 5, 5, "")
		if status, _ := answer(t, r); status != 200 {
			t.Errorf("behind %d bytes: %d", n, status)
		}
	}
}

// Whoever looks while sending, or before, need not send it all. The place of the request
// is free meanwhile.
func TestRefusedFromTheHead(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxInFlight = 1 }, refusing)
	for _, more := range []string{"", "Expect: 100-continue\r\n"} {
		c := b.dial()
		post(t, c, "/full", 1<<20, 0, more)
		if status, closes := answer(t, bufio.NewReader(c)); status != 503 || closes != (more != "") {
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
	b := start(t, nil, refusing)
	for i := range maxLingering + 10 {
		c := b.dial()
		defer c.Close()
		post(t, c, "/full", 1<<20, 0, "")
		if status, closes := answer(t, bufio.NewReader(c)); status != 503 || closes != (i >= maxLingering) {
			t.Fatalf("client %d: %d, the connection is closed: %v", i, status, closes)
		}
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
