package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"
	"pgregory.net/rapid"
)

// piped returns a connection and its other end.
func piped(t testing.TB) (*conn, net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return newConn(near, &listener{}), far
}

// longAgo is how net/http ends a read.
var longAgo = time.Unix(1, 0)

// However a deadline was moved before, an operation ends at the last one.
func TestDeadlinesAreKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		moves := rapid.SliceOfN(rapid.IntRange(-1, 20), 1, 12).Draw(rt, "moves") // seconds; -1: long ago; 0: none
		waits := rapid.SliceOfN(rapid.IntRange(0, 3), len(moves), len(moves)).Draw(rt, "waits")
		writes := rapid.Bool().Draw(rt, "writes")
		synctest.Test(t, func(t *testing.T) {
			c, _ := piped(t)
			move, do := c.SetReadDeadline, c.Read
			if writes {
				move, do = c.SetWriteDeadline, c.Write
			}
			want := time.Time{}
			for i, m := range moves {
				switch want = time.Now().Add(time.Duration(m) * time.Second); m {
				case -1:
					want = longAgo
				case 0:
					want = time.Time{}
				}
				if err := move(want); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(waits[i]) * time.Second)
			}
			began, ended := time.Now(), make(chan time.Time, 1)
			var failed error
			go func() {
				_, failed = do([]byte("12"))
				ended <- time.Now()
			}()
			time.Sleep(time.Minute)
			synctest.Wait()
			select {
			case at := <-ended:
				if due := max(want.Sub(began), 0); want.IsZero() || at.Sub(began) != due || !errors.Is(failed, os.ErrDeadlineExceeded) {
					t.Errorf("ended after %s with %v, the deadline was %s later", at.Sub(began), failed, want.Sub(began))
				}
			default:
				if !want.IsZero() {
					t.Errorf("has not ended; the deadline was %s later", want.Sub(began))
				}
				c.Close()
				<-ended
			}
		})
	})
}

// A read under way ends when it is told to, and another one goes on.
func TestReadsAreInterrupted(t *testing.T) {
	for _, bytes := range []int{1, 8} {
		for _, after := range []time.Duration{0, hangupAfter / 2, 2 * hangupAfter} {
			synctest.Test(t, func(t *testing.T) {
				c, far := piped(t)
				go func() { _, _ = far.Write([]byte("GET / HTTP/1.1\r\n")) }()
				if _, err := c.Read(make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { _, err := c.Read(make([]byte, bytes)); ended <- err }()
				time.Sleep(after)
				if err := c.SetReadDeadline(longAgo); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 0 {
					t.Errorf("%d bytes, after %s: %v after %s", bytes, after, err, time.Since(began))
				}
				if err := c.SetReadDeadline(time.Time{}); err != nil {
					t.Fatal(err)
				}
				go func() { _, _ = far.Write([]byte("more")) }()
				if n, err := c.Read(make([]byte, 64)); n != 4 || err != nil {
					t.Errorf("%d bytes, after %s: then %d, %v", bytes, after, n, err)
				}
			})
		}
	}
}

// A single byte is read at once, unless it is HTTP/1 that looks for one.
func TestSingleBytes(t *testing.T) {
	for first, want := range map[string]time.Duration{
		"GET / HTTP/1.1\r\n": hangupAfter, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 0, "P": 0, "PRI ": 0, "hijacked": 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			c, far := piped(t)
			go func() { _, _ = far.Write([]byte(first + "x")) }()
			if _, err := c.Read(make([]byte, len(first))); err != nil {
				t.Fatal(err)
			}
			if first == "hijacked" {
				c.hijacked()
			}
			began, p := time.Now(), make([]byte, 1)
			if _, err := io.ReadFull(c, p); err != nil || p[0] != 'x' {
				t.Fatal(err, p)
			}
			if took := time.Since(began); took != want {
				t.Errorf("%q: %s", first, took)
			}
		})
	}
}

// A write that its connection's deadline met too early goes on behind what was written.
func TestWritesGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := piped(t)
		for _, in := range []time.Duration{time.Second, time.Hour} {
			if err := c.SetWriteDeadline(time.Now().Add(in)); err != nil {
				t.Fatal(err)
			}
		}
		text, got := strings.Repeat("0123456789", 100), make(chan string, 1)
		go func() {
			var b strings.Builder
			for p := make([]byte, 300); b.Len() < len(text); time.Sleep(time.Second) {
				n, err := far.Read(p)
				if b.Write(p[:n]); err != nil {
					break
				}
			}
			got <- b.String()
		}()
		if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if g := <-got; g != text {
			t.Errorf("got %q", g)
		}
	})
}

// A request ends where its client goes, soon after it began or late, with a body or without.
func TestHangUp(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, after := range []time.Duration{0, 4 * hangupAfter} {
			began, ended := make(chan struct{}), make(chan error, 1)
			b := start(t, nil, func(e *echo.Echo) {
				e.Add(method, "/wait", func(c echo.Context) error {
					_, _ = io.Copy(io.Discard, c.Request().Body)
					close(began)
					<-c.Request().Context().Done()
					ended <- c.Request().Context().Err()
					return nil
				})
			})
			nc, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			body := "\r\n"
			if method == http.MethodPost {
				body = "Content-Length: 2\r\n\r\nhi"
			}
			if _, err := io.WriteString(nc, method+" /wait HTTP/1.1\r\nHost: localhost\r\n"+body); err != nil {
				t.Fatal(err)
			}
			<-began
			time.Sleep(after)
			nc.Close()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s, after %s: the handler waits still", method, after)
			}
		}
	}
}
