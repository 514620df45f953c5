package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/web"
	"sluice/internal/platform/web/limit"
)

// sink is a ResponseWriter that costs nothing itself.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// handler is a server's handler without its connections.
func handler(b *testing.B) http.Handler {
	limits, err := limit.New(limit.NewMemory(time.Now, 100), limit.Config{
		Tenant: limit.Policy{Quota: 1e6, Window: time.Second}, Key: limit.Policy{Quota: 1e6, Window: time.Second},
	})
	if err != nil {
		b.Fatal(err)
	}
	routes := web.NewRoutes(authenticate, limits)
	e := echo.New()
	a, err := New(e, routes, Config{Title: "Widgets", Version: "v1"})
	if err != nil {
		b.Fatal(err)
	}
	Register(a, Operation{ID: "change", Method: "PUT", Path: "/widgets/{id}", Summary: "Change", Permission: canWrite},
		func(_ context.Context, in *struct {
			ID   string `path:"id"`
			Body NewWidget
		}) (*widgetOut, error) {
			return &widgetOut{ETag: ETag(1), Body: Widget{ID: in.ID, Name: in.Body.Name, Size: in.Body.Size}}, nil
		})
	return e
}

// BenchmarkOperation is a small JSON operation through everything but the
// connection: credential, two quotas, negotiation, validation, answer.
func BenchmarkOperation(b *testing.B) {
	h := handler(b)
	r, err := http.NewRequestWithContext(context.Background(), "PUT", "http://127.0.0.1/v1/widgets/w1", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+writer)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "gzip")
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r.Body = io.NopCloser(strings.NewReader(`{"name":"cog","size":3}`))
		h.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Fatalf("status %d", w.status)
	}
}

// BenchmarkPlainEcho is the same by hand.
func BenchmarkPlainEcho(b *testing.B) {
	e := echo.New()
	e.PUT("/v1/widgets/:id", func(c echo.Context) error {
		var in NewWidget
		if err := c.Bind(&in); err != nil {
			return err
		}
		return c.JSON(http.StatusOK, Widget{ID: c.Param("id"), Name: in.Name, Size: in.Size})
	})
	r, err := http.NewRequestWithContext(context.Background(), "PUT", "http://127.0.0.1/v1/widgets/w1", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = 23
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r.Body = io.NopCloser(strings.NewReader(`{"name":"cog","size":3}`))
		e.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Fatalf("status %d", w.status)
	}
}
