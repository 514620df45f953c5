package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns a client of a server that answers as told.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	c, err := New(Config{URL: s.URL + "/", Key: "sk_1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c
}

func TestCallsAreRepeatedUnderOneKey(t *testing.T) {
	var calls atomic.Int32
	keys := make(chan string, 10)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key") + " " + r.Header.Get("Authorization")
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"id":"x"}`)
	})
	a, err := c.Call(t.Context(), Request{Method: "POST", Path: "/v1/things", Body: map[string]int{"n": 1}})
	if err != nil || string(a.Body) != `{"id":"x"}` {
		t.Fatal(a, err)
	}
	if first, second := <-keys, <-keys; first != second || len(first) != len("00000000-0000-0000-0000-000000000000 Bearer sk_1") {
		t.Errorf("%q, then %q", first, second)
	}
}

func TestProblems(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/problem":
			w.WriteHeader(422)
			fmt.Fprint(w, `{"title":"T","status":422,"detail":"D","code":"c","request_id":"r1","errors":[{"pointer":"#/rows/1","detail":"missing"},{"line":7,"detail":"ragged"}]}`)
		case "/oip":
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":"no such input"}`)
		default:
			w.WriteHeader(418)
			fmt.Fprint(w, "<html>a proxy</html>")
		}
	})
	for path, want := range map[string]string{
		"/problem": "D (422 c)\n  #/rows/1: missing\n  line 7: ragged\nrequest: r1",
		"/oip":     "no such input (400 unknown)",
		"/else":    "<html>a proxy</html> (418 unknown)",
	} {
		_, err := c.Call(t.Context(), Request{Path: path})
		if err == nil || err.Error() != want || StatusOf(err) < 400 {
			t.Errorf("%s: %v", path, err)
		}
	}
	gone, err := New(Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if _, err := gone.Call(t.Context(), Request{Method: "PATCH", Path: "/"}); !fault.Is(err, fault.Unavailable) || StatusOf(err) != 0 {
		t.Errorf("nobody there: %v", err)
	}
	for _, wrong := range []string{"localhost:8000", "ftp://x", "http://", "\x7f"} {
		if _, err := New(Config{URL: wrong}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestAllPages(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("cursor") {
		case "":
			fmt.Fprint(w, `{"data":[1,2],"next_cursor":"a b","has_more":true}`)
		case "a b":
			fmt.Fprint(w, `{"data":[3],"has_more":false}`)
		}
	})
	for limit, want := range map[int]string{0: "123", 1: "1", 2: "12", 9: "123"} {
		got := ""
		for thing, err := range c.All(t.Context(), "/v1/things?x=1", limit) {
			if err != nil {
				t.Fatal(err)
			}
			got += string(thing)
		}
		if got != want {
			t.Errorf("limit %d: %s", limit, got)
		}
	}
	down := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) })
	for _, err := range down.All(t.Context(), "/v1/things", 0) {
		if StatusOf(err) != 403 {
			t.Error(err)
		}
	}
}

// A stream is cut after each event: what follows comes behind the last one, none
// twice, and the end ends it.
func TestEventsResume(t *testing.T) {
	const n = 5
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var at int
		if last := r.Header.Get("Last-Event-ID"); last != "" {
			fmt.Sscanf(last, "e-%d", &at)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 1\n\n: comment\n\n")
		if at == n {
			fmt.Fprint(w, "event: end\nid: e-5\ndata: {}\n\n")
			return
		}
		fmt.Fprintf(w, "event: step\nid: e-%d\ndata: a\ndata: %d\n\nevent: torn\nid: e-%d\nda", at+1, at+1, at+9)
	})
	var got []string
	for e, err := range c.Events(t.Context(), Request{Path: "/events"}, "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %q", e.Type, e.Data))
	}
	want := `[step "a\n1" step "a\n2" step "a\n3" step "a\n4" step "a\n5" end "{}"]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
}

func TestEventsEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/over":
			w.WriteHeader(http.StatusNoContent)
		case "/html":
			fmt.Fprint(w, "hello")
		case "/gone":
			w.WriteHeader(404)
		}
	})
	for path, want := range map[string]int{"/over": 0, "/gone": 404, "/html": -1} {
		got := 0
		for _, err := range c.Events(t.Context(), Request{Path: path}, "") {
			if got = StatusOf(err); got == 0 {
				got = -1
			}
		}
		if got != want {
			t.Errorf("%s: %d", path, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for e, err := range c.Events(ctx, Request{Path: "/over"}, "") {
		t.Error(e, err)
	}
}

// What a POST has begun is not begun again when it breaks off.
func TestEventsOfAPostAreAskedForOnce(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 1\n\nevent: output\nid: s-1\ndata: 1\n\n")
	})
	n := 0
	var last error
	for _, err := range c.Events(t.Context(), Request{Method: "POST", Path: "/predict"}, "") {
		n, last = n+1, err
	}
	if n != 2 || !fault.Is(last, fault.Unavailable) || calls.Load() != 1 {
		t.Errorf("%d events of %d requests, %v", n, calls.Load(), last)
	}
}

func TestFinal(t *testing.T) {
	cause := errors.New("full")
	if err := (final{cause}); Passing(err) || !errors.Is(err, cause) {
		t.Error("a final error passes")
	}
}
