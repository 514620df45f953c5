package encode

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"sluice/internal/platform/fault"
)

func pack(t testing.TB, coding, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case Gzip:
		w = gzip.NewWriter(&buf)
	case Brotli:
		w = brotli.NewWriter(&buf)
	case Zstd:
		w, _ = zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	default:
		return []byte(text)
	}
	_, _ = io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func inflate(packed []byte, coding string, limit int64) (string, error) {
	r, err := Inflate(io.NopCloser(bytes.NewReader(packed)), []string{coding}, limit, "the test's limit")
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), errors.Join(err, r.Close())
}

func TestInflate(t *testing.T) {
	text := strings.Repeat("text ", 2000)
	for _, coding := range []string{"", "identity", Gzip, "X-GZIP", Brotli, Zstd} {
		packed := pack(t, strings.ToLower(strings.TrimPrefix(coding, "X-")), text)
		if strings.EqualFold(coding, "x-gzip") {
			packed = pack(t, Gzip, text)
		}
		for range 3 {
			if got, err := inflate(packed, coding, int64(len(text))); got != text || err != nil {
				t.Errorf("%s: %d bytes, %v", coding, len(got), err)
			}
		}
		if got, err := inflate(packed, coding, int64(len(text))-1); !fault.Is(err, fault.TooLarge) || len(got) != len(text)-1 {
			t.Errorf("%s: over the limit %d bytes, %v", coding, len(got), err)
		}
		if coding == "" || coding == "identity" {
			continue
		}
		for name, bad := range map[string][]byte{"cut": packed[:len(packed)-3], "nonsense": []byte("{\"a\":1} is JSON")} {
			if _, err := inflate(bad, coding, 1<<20); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s, %s: %v", coding, name, err)
			}
		}
	}
	for _, coding := range []string{"compress", "gzip, br", "deflate"} {
		if _, err := inflate(nil, coding, 10); fault.CodeOf(err) != "unsupported_media_type" {
			t.Errorf("%s: %v", coding, err)
		}
	}
	if got, err := inflate(nil, Gzip, 10); got != "" || err != nil {
		t.Errorf("an empty body: %q, %v", got, err)
	}
}

// What the body itself says reaches the reader: that it is too large, or slow.
func TestInflateKeepsTheBodysError(t *testing.T) {
	slow := fault.New(fault.DeadlineExceeded, "slow").WithCode("slow_body")
	for _, coding := range []string{"", Gzip, Brotli, Zstd} {
		packed := pack(t, coding, strings.Repeat("random enough? ", 500))
		r, err := Inflate(io.NopCloser(io.MultiReader(bytes.NewReader(packed[:20]), failing{slow})), []string{coding}, 1<<20, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); fault.CodeOf(err) != "slow_body" {
			t.Errorf("%q: %v", coding, err)
		}
		r.Close()
		if _, err := r.Read(make([]byte, 1)); err == nil && coding != "" {
			t.Errorf("%q can be read after Close", coding)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A body never yields more than its limit, whatever is in it.
func FuzzInflate(f *testing.F) {
	for i, coding := range []string{Gzip, Brotli, Zstd} {
		f.Add(pack(f, coding, "hello"), byte(i))
		f.Add(pack(f, coding, strings.Repeat("\x00", 100_000)), byte(i))
	}
	f.Fuzz(func(t *testing.T, packed []byte, which byte) {
		const limit = 10_000
		got, err := inflate(packed, preference[int(which)%len(preference)], limit)
		if len(got) > limit {
			t.Errorf("%d bytes", len(got))
		}
		if err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%v", err)
		}
	})
}
