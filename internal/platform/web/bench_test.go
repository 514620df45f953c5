package web

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// sink is a ResponseWriter that costs nothing itself.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func hotRoutes(e *echo.Echo) {
	e.POST("/v2/models/:model/infer", func(c echo.Context) error {
		if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
			return err
		}
		return c.NoContent(http.StatusOK)
	})
}

func bareEcho() *echo.Echo {
	e := echo.New()
	hotRoutes(e)
	return e
}

func guardedEcho(tb testing.TB) http.Handler {
	s, err := New(testConfig(), hotRoutes)
	if err != nil {
		tb.Fatal(err)
	}
	return s.http.Handler
}

type rewound struct{ *strings.Reader }

func (rewound) Close() error { return nil }

func benchmark(b *testing.B, h http.Handler, header http.Header) {
	r, err := http.NewRequest("POST", "http://127.0.0.1/v2/models/iris/infer", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header = header
	content := strings.NewReader("")
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		content.Reset("0123456789abcdef")
		r.Body = rewound{content}
		h.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Fatalf("status %d", w.status)
	}
}

func BenchmarkBareEcho(b *testing.B) { benchmark(b, bareEcho(), http.Header{}) }

func BenchmarkGuarded(b *testing.B) { benchmark(b, guardedEcho(b), http.Header{}) }

func BenchmarkGuardedWithRequestID(b *testing.B) {
	benchmark(b, guardedEcho(b), http.Header{requestIDHeader: {"client-chosen-id"}})
}

func BenchmarkGated(b *testing.B) {
	benchmark(b, gated(b, nil).http.Handler, http.Header{"Authorization": {"Bearer good"}})
}
