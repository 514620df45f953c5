package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

// shop is a server of one upload that is made of parts. The second is refused once
// with a status, if there is one, or its connection lost.
type shop struct {
	mu      sync.Mutex
	size    int
	content []byte
	kept    map[string]bool
	refuse  int // a status; 0 loses the connection
	refused bool
	done    bool
	secrets int // puts that came with a credential
}

const shopPart = 8 << 20

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodPut:
		s.put(w, r)
	case r.URL.Path == "/v1/uploads/upl_1/parts":
		var data []part
		first, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		n := (s.size + shopPart - 1) / shopPart
		for i := first; i < min(first+2, n); i++ {
			name := fmt.Sprintf("/elsewhere/%d", i)
			data = append(data, part{i + 1, int64(i) * shopPart, int64(min(shopPart, s.size-i*shopPart)), s.kept[name], name})
		}
		next := ""
		if first+2 < n {
			next = strconv.Itoa(first + 2)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data, "next_cursor": next})
	default:
		s.done = s.done || r.URL.Path == "/v1/uploads/upl_1/complete"
		state := map[bool]string{false: "open", true: "complete"}[s.done]
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "upl_1", "state": state, "mode": "parts", "length": s.size, "offset": 0})
	}
}

func (s *shop) put(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		s.secrets++
	}
	b, _ := io.ReadAll(r.Body)
	if s.refuse >= 0 && !s.refused && r.URL.Path == "/elsewhere/1" {
		if s.refused = true; s.refuse == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(s.refuse)
		return
	}
	i, _ := strconv.Atoi(r.URL.Path[len("/elsewhere/"):])
	copy(s.content[i*shopPart:], b)
	s.kept[r.URL.Path] = true
}

func TestUploadInParts(t *testing.T) {
	content := make([]byte, inParts+5)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	for _, refuse := range []int{-1, 0, http.StatusForbidden, http.StatusTooManyRequests} {
		s := &shop{size: len(content), content: make([]byte, len(content)), kept: map[string]bool{}, refuse: refuse}
		c := serve(t, s.ServeHTTP)
		c.key = "secret"
		var last int64
		u, err := c.Upload(t.Context(), &File{Name: "f", Type: "text/csv", Content: bytes.NewReader(content), Size: int64(len(content))}, func(n int64) { last = max(last, n) })
		if err != nil || u.State != "complete" || !bytes.Equal(s.content, content) || last != int64(len(content)) || s.secrets > 0 {
			t.Errorf("refused with %d: %+v, %v: told of %d, %d secrets", refuse, u, err, last, s.secrets)
		}
	}
	s := &shop{size: len(content) + 1}
	if _, err := serve(t, s.ServeHTTP).Resume(t.Context(), &File{Content: bytes.NewReader(content), Size: int64(len(content))}, "upl_1", func(int64) {}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

// A server that completes an upload for longer than the client tries otherwise is waited for.
func TestSlowCompletion(t *testing.T) {
	calls, gone := 0, false
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		switch {
		case gone:
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"title":"T","code":"upload_incomplete"}`)
		case calls <= patience+2:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"title":"T","code":"upload_busy"}`)
		default:
			fmt.Fprint(w, `{"id":"upl_1"}`)
		}
	})
	var waits []time.Duration
	c.rest = func(_ context.Context, d time.Duration) bool { waits = append(waits, d); return true }
	if _, err := c.complete(t.Context(), "upl_1"); err != nil || len(waits) != patience+2 || waits[0] != 7*time.Second {
		t.Errorf("%v: waited for %v", err, waits)
	}
	gone = true
	if _, err := c.complete(t.Context(), "upl_1"); StatusOf(err) != http.StatusConflict || len(waits) != patience+2 {
		t.Error(err)
	}
}
