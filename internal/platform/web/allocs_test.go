//go:build !race

// The race detector makes sync.Pool forget, so that allocations say nothing.

package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/web/limit"
)

func allocs(t *testing.T, h http.Handler) float64 {
	t.Helper()
	r, err := http.NewRequest("POST", "http://127.0.0.1/v2/models/iris/infer", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer good")
	content := strings.NewReader("")
	w := &sink{header: http.Header{}}
	n := testing.AllocsPerRun(500, func() {
		clear(w.header)
		content.Reset("0123456789abcdef")
		r.Body = rewound{content}
		h.ServeHTTP(w, r)
	})
	if w.status != http.StatusOK {
		t.Fatalf("status %d", w.status)
	}
	return n
}

// TestGuardIsThin holds the guard to its budget of allocations.
func TestGuardIsThin(t *testing.T) {
	if bare, guarded := allocs(t, bareEcho()), allocs(t, guardedEcho(t)); guarded-bare > 3 {
		t.Errorf("the guard adds %v allocations to Echo's %v, want at most 3", guarded-bare, bare)
	}
}

// TestGateIsThin holds authentication, quotas and the check of the permission to
// theirs: the principal has a place in what the guard makes anyway.
func TestGateIsThin(t *testing.T) {
	limits, err := limit.New(limit.NewMemory(time.Now, 100), limit.Config{
		Tenant: limit.Policy{Quota: 1e6, Window: time.Second}, Key: limit.Policy{Quota: 1e6, Window: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	if guarded, gated := allocs(t, guardedEcho(t)), allocs(t, gated(t, limits).http.Handler); gated > guarded {
		t.Errorf("the gate adds %v allocations to the guard's %v, want none", gated-guarded, guarded)
	}
}
