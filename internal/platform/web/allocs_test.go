//go:build !race

// The race detector makes sync.Pool forget, so that allocations say nothing.

package web

import (
	"net/http"
	"strings"
	"testing"
)

// TestGuardIsThin holds the guard to its budget of allocations.
func TestGuardIsThin(t *testing.T) {
	allocs := func(h http.Handler) float64 {
		r, err := http.NewRequest("POST", "http://127.0.0.1/v2/models/iris/infer", nil)
		if err != nil {
			t.Fatal(err)
		}
		content := strings.NewReader("")
		w := &sink{header: http.Header{}}
		return testing.AllocsPerRun(500, func() {
			clear(w.header)
			content.Reset("0123456789abcdef")
			r.Body = rewound{content}
			h.ServeHTTP(w, r)
		})
	}
	if bare, guarded := allocs(bareEcho()), allocs(guardedEcho(t)); guarded-bare > 3 {
		t.Errorf("the guard adds %v allocations to Echo's %v, want at most 3", guarded-bare, bare)
	}
}
