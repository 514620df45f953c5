package encode

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func unpack(t testing.TB, coding string, packed []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(packed)
	var err error
	switch coding {
	case Gzip:
		r, err = gzip.NewReader(r)
	case Brotli:
		r = brotli.NewReader(r)
	case Zstd:
		r, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serve answers a request through a Writer.
func serve(t testing.TB, r *http.Request, handler http.HandlerFunc) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	w := Begin(rec, r)
	handler(w, r)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return rec
}

func request(accept string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", accept)
	return r
}

func write(contentType, text string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		_, _ = io.WriteString(w, text)
	}
}

var large = strings.Repeat(`{"name":"a widget"},`, 500)

func TestAnswersAreCompressed(t *testing.T) {
	for _, coding := range []string{Gzip, Brotli, Zstd} {
		for range 3 { // pooled compressors work again
			rec := serve(t, request(coding), write("application/json; charset=utf-8", large, "ETag", `"7"`, "Content-Length", strconv.Itoa(len(large))))
			h := rec.Header()
			if h.Get("Content-Encoding") != coding || h.Get("Vary") != "Accept-Encoding" || h.Get("ETag") != `"7-`+coding+`"` || h.Get("Content-Length") != "" {
				t.Errorf("%s: %v", coding, h)
			}
			if rec.Body.Len() > len(large)/5 || unpack(t, coding, rec.Body.Bytes()) != large {
				t.Errorf("%s: %d bytes of %d", coding, rec.Body.Len(), len(large))
			}
		}
	}
}

func TestAnswersThatStayAsTheyAre(t *testing.T) {
	crossSite := request(Gzip)
	crossSite.Header.Set("Sec-Fetch-Site", "cross-site")
	head := request(Gzip)
	head.Method = http.MethodHead
	for name, tc := range map[string]struct {
		r       *http.Request
		handler http.HandlerFunc
		vary    string
	}{
		"small":        {request(Gzip), write("application/json", "{}"), "Accept-Encoding"},
		"not wanted":   {request("identity"), write("application/json", large), "Accept-Encoding"},
		"cross-site":   {crossSite, write("application/json", large), "Accept-Encoding"},
		"HEAD":         {head, write("application/json", large), "Accept-Encoding"},
		"image":        {request(Gzip), write("image/png", large), ""},
		"stream":       {request(Gzip), write("text/event-stream", large), ""},
		"coded before": {request(Gzip), write("application/json", large, "Content-Encoding", "br"), ""},
		"no-transform": {request(Gzip), write("application/json", large, "Cache-Control", "no-transform"), ""},
		"partial": {request(Gzip), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, large)
		}, ""},
	} {
		rec := serve(t, tc.r, tc.handler)
		if coding := rec.Header().Get("Content-Encoding"); coding != "" && coding != "br" || rec.Header().Get("Vary") != tc.vary {
			t.Errorf("%s: %v", name, rec.Header())
		}
		if got := rec.Body.String(); got != large && got != "{}" {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	none := serve(t, request(Gzip), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if none.Code != http.StatusNoContent || none.Header().Get("Content-Length") != "" || none.Header().Get("Content-Encoding") != "" {
		t.Errorf("204: %v", none.Header())
	}
	untouched := serve(t, request(Gzip), func(http.ResponseWriter, *http.Request) {})
	if len(untouched.Header()) != 0 {
		t.Errorf("nothing written: %v", untouched.Header())
	}
}

// Streams: what is flushed is out, as it is or decompressible so far.
func TestFlushHoldsNothingBack(t *testing.T) {
	for _, coding := range []string{Gzip, Brotli, Zstd} {
		for name, chunk := range map[string]string{"small": "{\"row\":1}\n", "large": large} {
			rec := httptest.NewRecorder()
			w := Begin(rec, request(coding))
			w.Header().Set("Content-Type", "application/x-ndjson")
			for i := 1; i <= 3; i++ {
				if _, err := io.WriteString(w, chunk); err != nil {
					t.Fatal(err)
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Fatal(err)
				}
				if !rec.Flushed {
					t.Errorf("%s %s: the connection was not flushed", coding, name)
				}
				rec.Flushed = false
				if got := soFar(t, rec); got != strings.Repeat(chunk, i) {
					t.Errorf("%s %s: after %d flushes %d bytes are out, of %d", coding, name, i, len(got), i*len(chunk))
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if coded := rec.Header().Get("Content-Encoding") != ""; coded != (name == "large") {
				t.Errorf("%s %s: %v", coding, name, rec.Header())
			}
		}
	}
	rec := httptest.NewRecorder()
	w := Begin(rec, request(Gzip))
	if err := w.FlushError(); err != nil || rec.Code != http.StatusOK || !rec.Flushed {
		t.Errorf("a flush before anything: %v %d", err, rec.Code)
	}
}

// soFar reads what an unfinished answer shows.
func soFar(t *testing.T, rec *httptest.ResponseRecorder) string {
	t.Helper()
	packed := bytes.NewReader(rec.Body.Bytes())
	var r io.Reader = packed
	switch rec.Header().Get("Content-Encoding") {
	case Gzip:
		zr, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		r = zr
	case Brotli:
		r = brotli.NewReader(packed)
	case Zstd:
		zr, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer zr.Close()
		r = zr
	}
	var text bytes.Buffer
	_, _ = io.Copy(&text, r) // ends in the middle
	return text.String()
}

// Law: whatever an answer's writes and flushes, the client gets what was written.
func TestAnyWritesArrive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		coding := rapid.SampledFrom([]string{"", Gzip, Brotli, Zstd}).Draw(rt, "coding")
		var want strings.Builder
		rec := serve(t, request(coding), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			for range rapid.IntRange(0, 6).Draw(rt, "steps") {
				if rapid.Bool().Draw(rt, "flush") {
					_ = http.NewResponseController(w).Flush()
					continue
				}
				text := strings.Repeat("abcd ", rapid.IntRange(0, 600).Draw(rt, "words"))
				want.WriteString(text)
				_, _ = io.WriteString(w, text)
			}
		})
		if got := unpack(t, rec.Header().Get("Content-Encoding"), rec.Body.Bytes()); got != want.String() {
			rt.Fatalf("%d bytes arrived, of %d", len(got), want.Len())
		}
	})
}

func TestPlainTagsComeBack(t *testing.T) {
	for _, coding := range preference {
		if got := Plain(suffixed(`"7"`, coding)); got != `"7"` {
			t.Errorf("%s: %s", coding, got)
		}
	}
	for _, tag := range []string{`"7"`, `W/"7"`, "", `"`, "x"} {
		if Plain(tag) != tag {
			t.Errorf("%s became %s", tag, Plain(tag))
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, coding := range []string{"identity", Gzip, Brotli, Zstd} {
		b.Run(coding, func(b *testing.B) {
			r, text := request(coding), []byte(large)
			w := &sink{header: http.Header{}}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				w.n = 0
				w.header.Set("Content-Type", "application/json")
				e := Begin(w, r)
				_, _ = e.Write(text)
				_ = e.Close()
			}
			b.ReportMetric(float64(len(text))/float64(w.n), "ratio")
		})
	}
}

type sink struct {
	header http.Header
	n      int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }
