package download

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

func contentOf(data []byte) Content {
	sum := sha256.Sum256(data)
	return Content{Size: int64(len(data)), Type: "text/csv", SHA256: hex.EncodeToString(sum[:]), FileName: "größe.csv",
		Open: func(_ context.Context, offset, length int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[offset : offset+length])), nil
		}}
}

func ask(c Content, method string, headers ...string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	return w, Serve(w, r, c)
}

// Whatever the client asks for, it gets just those bytes, or all, and can tell.
func TestRangesLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(rt, "data")
		number := rapid.OneOf(rapid.Just(""), rapid.Custom(func(rt *rapid.T) string { return strconv.Itoa(rapid.IntRange(0, 70).Draw(rt, "n")) }))
		text := "bytes=" + number.Draw(rt, "from") + "-" + number.Draw(rt, "to")
		c := contentOf(data)
		w, err := ask(c, http.MethodGet, "Range", text)
		if err != nil {
			if fault.CodeOf(err) != web.CodeRange || w.Header().Get("Content-Range") != fmt.Sprintf("bytes */%d", len(data)) {
				rt.Fatalf("%s of %d: %v, %v", text, len(data), err, w.Header())
			}
			return
		}
		want := data
		if w.Code == http.StatusPartialContent {
			var first, last, size int
			if _, err := fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil || size != len(data) {
				rt.Fatalf("%s: %v", text, w.Header())
			}
			want = data[first : last+1]
		}
		if !bytes.Equal(w.Body.Bytes(), want) || w.Header().Get("Content-Length") != strconv.Itoa(len(want)) {
			rt.Fatalf("%s of %d answers %d with %d bytes, %v", text, len(data), w.Code, w.Body.Len(), w.Header())
		}
	})
}

func TestConditionsAndForms(t *testing.T) {
	c := contentOf([]byte("0123456789"))
	tag := ETag(c.SHA256)
	for name, tc := range map[string]struct {
		method  string
		headers []string
		status  int
		body    string
	}{
		"all":           {"GET", nil, 200, "0123456789"},
		"head":          {"HEAD", nil, 200, ""},
		"same":          {"GET", []string{"If-None-Match", tag}, 304, ""},
		"same, weak":    {"GET", []string{"If-None-Match", `"x", W/` + tag}, 304, ""},
		"other":         {"GET", []string{"If-None-Match", `"x"`}, 200, "0123456789"},
		"middle":        {"GET", []string{"Range", "bytes=2-4"}, 206, "234"},
		"end":           {"GET", []string{"Range", "bytes=-3"}, 206, "789"},
		"if same":       {"GET", []string{"Range", "bytes=8-", "If-Range", tag}, 206, "89"},
		"if other":      {"GET", []string{"Range", "bytes=8-", "If-Range", `"x"`}, 200, "0123456789"},
		"several":       {"GET", []string{"Range", "bytes=0-1,3-4"}, 200, "0123456789"},
		"twice":         {"GET", []string{"Range", "bytes=0-1", "Range", "bytes=3-4"}, 200, "0123456789"},
		"nonsense":      {"GET", []string{"Range", "rows=1-2"}, 200, "0123456789"},
		"signs":         {"GET", []string{"Range", "bytes=+1-+2"}, 200, "0123456789"},
		"head and part": {"HEAD", []string{"Range", "bytes=2-4"}, 200, ""},
	} {
		w, err := ask(c, tc.method, tc.headers...)
		if err != nil || w.Code != tc.status || w.Body.String() != tc.body || w.Header().Get("ETag") != tag || w.Header().Get("Repr-Digest") == "" {
			t.Errorf("%s: %d %q %v, %v", name, w.Code, w.Body, w.Header(), err)
		}
	}
	w, _ := ask(c, "GET")
	if got := w.Header().Get("Content-Disposition"); got != `attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.csv` {
		t.Errorf("disposition %q", got)
	}
	if got := Digest(hexOf("")); got != "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:" {
		t.Errorf("digest %q", got)
	}
}

func hexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Content that ends early, or turns out to be damaged, is never taken for whole.
func TestDamageIsAnError(t *testing.T) {
	c := contentOf([]byte("0123456789"))
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader([]byte("0123"))), nil
	}
	if w, err := ask(c, "GET"); err == nil || w.Body.Len() > 0 {
		t.Errorf("%q, %v", w.Body, err)
	}
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("0123456789"), iotest.ErrReader(errors.New("rotten")))), nil
	}
	if w, err := ask(c, "GET"); err == nil || w.Body.Len() > 0 {
		t.Errorf("damaged: %q, %v", w.Body, err)
	}
	long := contentOf(bytes.Repeat([]byte("x"), 3*piece+1))
	if w, err := ask(long, "GET"); err != nil || w.Body.Len() != 3*piece+1 {
		t.Errorf("long: %d, %v", w.Body.Len(), err)
	}
	c.Open = func(context.Context, int64, int64) (io.ReadCloser, error) {
		return nil, fault.New(fault.NotFound, "gone")
	}
	if w, err := ask(c, "GET"); !fault.Is(err, fault.NotFound) || w.Body.Len() > 0 {
		t.Errorf("%q, %v", w.Body, err)
	}
}

// What is made while it is sent is whole or an error; where nothing was sent yet, the answer
// is the caller's to write.
func TestStream(t *testing.T) {
	c := Content{Type: "text/csv", FileName: "a.csv"}
	broken := errors.New("broken")
	for name, want := range map[string]struct {
		method string
		write  func(io.Writer) error
		err    error
		begun  bool
		body   string
	}{
		"whole":  {http.MethodGet, func(w io.Writer) error { _, err := io.WriteString(w, "a\r\n"); return err }, nil, true, "a\r\n"},
		"empty":  {http.MethodGet, func(io.Writer) error { return nil }, nil, true, ""},
		"head":   {http.MethodHead, func(io.Writer) error { return broken }, nil, true, ""},
		"before": {http.MethodGet, func(io.Writer) error { return broken }, broken, false, ""},
		"amid":   {http.MethodGet, func(w io.Writer) error { return errors.Join(second(w.Write([]byte("a"))), broken) }, broken, true, "a"},
	} {
		r, w := httptest.NewRequest(want.method, "/", nil), httptest.NewRecorder()
		r.Header.Set("Range", "bytes=0-0")
		if err := Stream(w, r, c, want.write); !errors.Is(err, want.err) || w.Body.String() != want.body {
			t.Errorf("%s: %v %q", name, err, w.Body)
		}
		h := w.Header()
		if begun := h.Get("Content-Type") == "text/csv" && h.Get("Content-Disposition") == "attachment; filename=a.csv" && w.Code == http.StatusOK; begun != want.begun || !begun && len(h) > 0 {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
	}
}

func second(_ int, err error) error { return err }
