package web

import (
	"sync"
	"testing"

	"github.com/labstack/echo/v4"
)

// Streams take no place among the requests being served, and a request that was
// one leaves nothing behind.
func TestStreamsKeepNobodyOut(t *testing.T) {
	release := make(chan struct{})
	b := start(t, func(c *Config) { c.MaxInFlight = 2 }, func(e *echo.Echo) {
		e.GET("/stream", func(c echo.Context) error {
			Stream(c.Request().Context())
			Stream(c.Request().Context()) // it is one already
			<-release
			return c.NoContent(204)
		})
		e.POST("/work", func(c echo.Context) error { return c.NoContent(204) })
	})
	var streams sync.WaitGroup
	for n := range 40 { // more than the limit and the room for reads beyond it
		streams.Go(func() {
			if resp, body := b.do(b.request("GET", "/stream", nil)); resp.StatusCode != 204 {
				t.Errorf("a stream is answered %d %s", resp.StatusCode, body)
			}
		})
		waitFor(t, func() bool { return b.inFlight.Load() == int64(n)+1 && b.places.Load() == 0 })
	}
	if resp, body := b.do(b.request("POST", "/work", nil)); resp.StatusCode != 204 {
		t.Errorf("beside the streams: %d %s", resp.StatusCode, body)
	}
	close(release)
	streams.Wait()
	waitFor(t, func() bool { return b.inFlight.Load() == 0 && b.places.Load() == 0 })
	Stream(t.Context()) // no request
}
