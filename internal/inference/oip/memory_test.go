package oip

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
)

// pack compresses a body with gzip or deflate.
func pack(t testing.TB, coding, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if coding == "deflate" {
		w = zlib.NewWriter(&b)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Many bodies at once that inflate to megabytes each are refused beyond the
// budget, whatever they inflate or decode to, and nothing stays held.
func TestMemoryIsBounded(t *testing.T) {
	const limit, each = 8 << 20, 2 << 20
	numbers := strings.TrimSuffix(strings.Repeat("1,", 100_000), ",")
	blank := jsonRequest + strings.Repeat(" ", each-len(jsonRequest)-1)
	load := fmt.Sprintf(`{"parameters":{"file:1/model.onnx":"%s"}}`, strings.Repeat("A", each-100))
	for name, c := range map[string]struct {
		path   string
		body   []byte
		header []string
	}{
		"gzip":     {"/v2/models/m/infer", pack(t, "gzip", blank), []string{"Content-Encoding", "gzip"}},
		"deflate":  {"/v2/models/m/infer", pack(t, "deflate", blank), []string{"Content-Encoding", "deflate"}},
		"plain":    {"/v2/models/m/infer", []byte(blank), nil},
		"decoded":  {"/v2/models/m/infer", []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,100000],"data":[` + numbers + `]}]}` + strings.Repeat(" ", each/2)), nil},
		"generate": {"/v2/models/m/generate", []byte(`{"x":[` + numbers + `]}` + strings.Repeat(" ", each/2)), nil},
		"load":     {"/v2/repository/models/m/load", pack(t, "gzip", load), []string{"Content-Encoding", "gzip"}},
	} {
		t.Run(name, func(t *testing.T) {
			memory := budget.New(limit, "http.max_held")
			peak, enough := atomic.Int64{}, make(chan struct{})
			m := testModels()
			look := func() {
				for held := memory.Held(); ; {
					if before := peak.Load(); held <= before || peak.CompareAndSwap(before, held) {
						return
					}
				}
			}
			m.run = func(context.Context, *serve.Request) error { look(); <-enough; return nil }
			models := &waitingModels{m, func() { look(); <-enough }}
			s := testServer(t, models, Config{MaxBody: each, MaxBodyKey: "http.max_body", Memory: memory})
			var refused, served atomic.Int64
			var all sync.WaitGroup
			for range 24 {
				all.Go(func() {
					a := send(t, s, "POST", c.path, c.body, c.header...)
					switch a.status {
					case 200:
						served.Add(1)
					case http.StatusServiceUnavailable:
						a.wantError(t, 503, "http.max_held")
						if a.header.Get("Retry-After") != "1" {
							t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
						}
						if refused.Add(1) == 16 {
							close(enough) // those that are held may go on
						}
					default:
						t.Errorf("%d %s", a.status, a.body)
					}
				})
			}
			all.Wait()
			if served.Load() == 0 || refused.Load() < 16 {
				t.Errorf("%d served, %d refused", served.Load(), refused.Load())
			}
			if peak.Load() > limit || peak.Load() < limit/4 {
				t.Errorf("%d bytes held at once", peak.Load())
			}
			if a := send(t, s, "POST", c.path, c.body, c.header...); a.status != 200 {
				t.Errorf("afterwards: %d %s", a.status, a.body)
			}
		})
	}
}

// waitingModels waits before each load.
type waitingModels struct {
	*identityModels
	wait func()
}

func (m *waitingModels) Load(ctx context.Context, name string, opts serve.LoadOptions) error {
	m.wait()
	return m.identityModels.Load(ctx, name, opts)
}

// A single request that the other limits allow is served by a server whose
// budget is smaller.
func TestARequestAloneIsServed(t *testing.T) {
	s := testServer(t, testModels(), Config{Memory: budget.New(1000, "http.max_held")})
	body := pack(t, "gzip", jsonRequest+strings.Repeat(" ", 1<<20))
	for range 3 {
		send(t, s, "POST", "/v2/models/m/infer", body, "Content-Encoding", "gzip").wantBody(t, jsonResponse)
	}
}

// A body that is refused, cut short or larger than the limit leaves nothing
// held; neither does one whose answer is compressed.
func TestMemoryIsReturned(t *testing.T) {
	memory := budget.New(1<<30, "http.max_held")
	s := testServer(t, testModels(), Config{MaxBody: 1 << 20, Memory: memory})
	big := `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,9999],"data":[` + strings.Repeat("1,", 9998) + `1]}]}`
	for _, c := range []struct {
		body   []byte
		header []string
		status int
	}{
		{[]byte(big), []string{"Accept-Encoding", "gzip"}, 200},
		{pack(t, "gzip", strings.Repeat(" ", 2<<20)), []string{"Content-Encoding", "gzip"}, 413},
		{pack(t, "gzip", big)[:100], []string{"Content-Encoding", "gzip"}, 400},
		{[]byte("no gzip"), []string{"Content-Encoding", "gzip"}, 400},
		{[]byte(big), []string{"Content-Encoding", "br"}, 501},
		{[]byte(big[:5000]), nil, 400},
		{[]byte(strings.Replace(big, `1]}`, `1]`, 1)), nil, 400},
	} {
		a := send(t, s, "POST", "/v2/models/m/infer", c.body, c.header...)
		if a.status != c.status {
			t.Errorf("%d %.100s, want %d", a.status, a.body, c.status)
		}
		waitFor(t, func() bool { return memory.Held() == 0 })
	}
}
