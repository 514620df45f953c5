package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

func TestDrainFinishesWhatWasAccepted(t *testing.T) {
	release := make(chan struct{})
	b := start(t, nil, func(e *echo.Echo) {
		e.POST("/work", func(c echo.Context) error { <-release; return c.String(200, "done") })
	})
	answer := make(chan string, 1)
	go func() { _, body := b.do(b.request("POST", "/work", nil)); answer <- body }()
	waitFor(t, func() bool { return b.inFlight.Load() == 1 })
	drained := make(chan error, 1)
	go func() { drained <- b.Drain(t.Context()) }()
	waitFor(t, func() bool {
		c, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(b.url("/"))
		if err == nil {
			c.Body.Close()
		}
		return err != nil // the listener is closed
	})
	select {
	case err := <-drained:
		t.Fatalf("drained with a request in flight: %v", err)
	default:
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("answered %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := b.Drain(t.Context()); err != nil {
		t.Errorf("a second drain: %v", err)
	}
}

func TestCancelEndsWhatDoesNotFinish(t *testing.T) {
	ended := make(chan error, 1)
	b := start(t, nil, func(e *echo.Echo) {
		e.POST("/stuck", func(c echo.Context) error {
			<-c.Request().Context().Done()
			ended <- c.Request().Context().Err()
			return c.Request().Context().Err()
		})
	})
	go func() {
		if resp, err := b.client.Do(b.request("POST", "/stuck", nil)); err == nil {
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return b.inFlight.Load() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain: %v", err)
	}
	b.cancel()
	<-b.done
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context: %v", err)
	}
}

// Clients hammer two servers, one of which restarts: clients that heed "not
// ready" before the notice is over see every request answered, over HTTP/1.1
// and HTTP/2.
func TestRollingRestartLosesNothing(t *testing.T) {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, protocols := range map[string]*http.Protocols{"HTTP/1.1": nil, "HTTP/2": h2} {
		t.Run(name, func(t *testing.T) {
			var draining atomic.Bool
			routes := func(e *echo.Echo) {
				e.POST("/work", func(c echo.Context) error {
					if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
						return err
					}
					time.Sleep(20 * time.Millisecond)
					return c.String(200, "done")
				})
			}
			old := start(t, func(c *Config) { c.Draining = draining.Load }, routes)
			fresh := start(t, nil, routes)

			var answered, onOld atomic.Int64 // onOld: clients that are about to ask, or ask, the old server
			stop := make(chan struct{})
			var clients sync.WaitGroup
			for range 16 {
				client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
				clients.Go(func() {
					defer client.CloseIdleConnections()
					for {
						select {
						case <-stop:
							return
						default:
						}
						target := old
						onOld.Add(1)
						if draining.Load() { // as a load balancer reads it from /readyz
							target = fresh
							onOld.Add(-1)
						}
						// A reader without GetBody: the transport cannot retry it silently.
						r, err := http.NewRequest("POST", target.url("/work"), io.MultiReader(strings.NewReader("body")))
						if err != nil {
							t.Error(err)
							return
						}
						resp, err := client.Do(r)
						if err != nil {
							t.Errorf("lost: %v", err)
							return
						}
						if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
							t.Errorf("lost: %q %v", body, err)
						}
						resp.Body.Close()
						answered.Add(1)
						if target == old {
							onOld.Add(-1)
						}
					}
				})
			}
			waitFor(t, func() bool { return answered.Load() > 100 })
			draining.Store(true)
			// The notice: nobody turns to the old server any more, and all that
			// did are being answered.
			waitFor(t, func() bool { return onOld.Load() == old.inFlight.Load() })
			if err := old.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			at := answered.Load()
			waitFor(t, func() bool { return answered.Load() > at+100 || t.Failed() })
			close(stop)
			clients.Wait()
		})
	}
}

// While draining, clients with kept connections are told to leave.
func TestDrainingClosesKeptConnections(t *testing.T) {
	b := start(t, func(c *Config) { c.Draining = func() bool { return true } }, echoBody)
	resp, _ := b.do(b.request("GET", "/items/1", nil))
	if !resp.Close {
		t.Error("no Connection: close")
	}
}

// Connections that have just been accepted get their request answered though
// the drain has begun: the one that http.Server.Shutdown would drop.
func TestDrainAnswersFreshConnections(t *testing.T) {
	b := start(t, nil, echoBody)
	c := b.dial()
	waitFor(t, func() bool { return b.listener.fresh.Load() == 1 })
	drained := make(chan error, 1)
	go func() { drained <- b.Drain(t.Context()) }()
	waitFor(t, b.draining.Load)
	io.WriteString(c, "GET /items/7 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n7") {
		t.Errorf("answered %q, %v", answer, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// Connections that the kernel has made, but that were not accepted yet when the
// drain began, are answered and told to leave; the next one is refused.
func TestDrainAnswersTheBacklog(t *testing.T) {
	s, err := New(testConfig(), echoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	clients := make([]net.Conn, 50)
	for i := range clients {
		if clients[i], err = net.Dial("tcp", s.Addr()); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
		io.WriteString(clients[i], "GET /items/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	waitFor(t, s.draining.Load)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // accepts only now
	for _, c := range clients {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n7") || !strings.Contains(string(answer), "Connection: close") {
			t.Fatalf("answered %q, %v", answer, err)
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
