package feedhttp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a handler of one topic behind the platform's own server, whose limits
// of time are shorter than any stream.
type bed struct {
	t     testing.TB
	hub   *feed.Hub
	topic *feed.Topic
	addr  string
}

type setup struct {
	hub     feed.Config
	topic   feed.TopicConfig
	http    Config
	expires time.Time
	recheck func(context.Context) error
	target  Target
}

func open(t testing.TB, s setup) *bed {
	t.Helper()
	s.topic.Tenant = "t"
	topic, err := feed.NewTopic("x", s.topic)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := feed.NewHub(nil, s.hub)
	if err != nil {
		t.Fatal(err)
	}
	h := New(hub, s.http)
	s.target.Topic = topic
	server, err := web.New(web.Config{
		Name: "http", Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxHeader: 8 << 10, MaxConnections: 5000, MaxInFlight: 5000,
		ReadHeaderTimeout: time.Second, ReadTimeout: 300 * time.Millisecond, WriteTimeout: 300 * time.Millisecond, IdleTimeout: time.Second,
	}, func(e *echo.Echo) {
		e.GET("/events", func(c echo.Context) error {
			p := &access.Principal{Tenant: "t", Expires: s.expires, Recheck: s.recheck}
			return h.Serve(c.Response(), c.Request().WithContext(access.With(c.Request().Context(), p)), s.target)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		hub.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &bed{t: t, hub: hub, topic: topic, addr: server.Addr()}
}

// add appends events, numbered from the sequence on.
func (b *bed) add(n int) {
	b.t.Helper()
	for range n {
		if _, err := b.topic.Append(context.Background(), "output", "k", []byte(`{"ok":true}`)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// client reads a stream as text.
type client struct {
	t      testing.TB
	status int
	header http.Header
	body   *bufio.Reader
	close  func()
}

func (b *bed) get(query string, header ...string) *client {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.addr+"/events?"+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	c := &client{t: b.t, status: resp.StatusCode, header: resp.Header, body: bufio.NewReader(resp.Body), close: func() { cancel(); resp.Body.Close() }}
	b.t.Cleanup(c.close)
	return c
}

// block returns the next block of the stream, its lines joined by spaces.
func (c *client) block() string {
	var lines []string
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			return strings.Join(append(lines, err.Error()), " ")
		}
		if line == "\n" {
			return strings.Join(lines, " ")
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.block(); got != w {
			c.t.Errorf("got %q, want %q", got, w)
		}
	}
}

func output(seq int) string {
	return fmt.Sprintf(`id: x-%d event: output data: {"ok":true}`, seq)
}

// dial sends a request by hand and never reads.
func (b *bed) dial(header string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "GET /events HTTP/1.1\r\nHost: x\r\n%s\r\n", header); err != nil {
		b.t.Fatal(err)
	}
	return c
}
