package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/fault"
)

func TestRedact(t *testing.T) {
	const key = "slc_live_0123456789abcdefghijABCDEFGHIJ_a1b2c3"
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
	for in, want := range map[string]string{
		"key " + key + " is old":                         "key slc_live_[redacted] is old",
		key[:14]:                                         "slc_live_[redacted]",
		"a token " + token + ".":                         "a token [redacted]",
		"Bearer abcdef123456":                            "Bearer [redacted]",
		"Authorization: Bearer abcdef123456":             "Authorization: [redacted]",
		"map[Authorization:[Basic YW5uOnB3] X:[1]]":      "map[Authorization:[[redacted]] X:[1]]",
		"dial nats://ann:pa@ss@host:4222/x failed":       "dial nats://[redacted]@host:4222/x failed",
		"https://token@host/x":                           "https://[redacted]@host/x",
		"whsec_abc+/=":                                   "whsec_[redacted]",
		"from ann.lee+x@example.co.uk, to":               "from [redacted], to",
		"an jürgen@münchen.example":                      "an [redacted]",
		"GET /x?a=1&api_key=hunter2&b=2":                 "GET /x?a=1&api_key=[redacted]&b=2",
		"user=ann password='hun ter2' host=h":            "user=ann password='[redacted]' host=h",
		"password = hunter2 x":                           "password = [redacted] x",
		`{"user":"ann","Password":"hun\"ter2","n":1}`:    `{"user":"ann","Password":"[redacted]","n":1}`,
		`body: "{\"client_secret\":\"hunter2\",\"n\":1}`: `body: "{\"client_secret\":\"[redacted]\",\"n\":1}`,
		"password: hunter2\nuser: ann":                   "password: [redacted]\nuser: ann",
		"{User:ann Password:hunter2 N:1}":                "{User:ann Password:[redacted] N:1}",
		"Cookie: sid=hunter2; theme=dark\nHost: x":       "Cookie: [redacted]\nHost: x",
		"password=[redacted]":                            "password=[redacted]",
		"-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nend": "[redacted]\nend",
		"-----BEGIN PRIVATE KEY-----\nMHc":                                       "[redacted]",
		// What is harmless stays readable.
		"":                                          "",
		"cannot read the token: it is empty":        "cannot read the token: it is empty",
		"a bearer token is needed":                  "a bearer token is needed",
		"the basic configuration is wrong":          "the basic configuration is wrong",
		"http://localhost:8080/v1/x@y":              "http://localhost:8080/v1/x@y",
		"-----BEGIN CERTIFICATE-----":               "-----BEGIN CERTIFICATE-----",
		"queue_full: retry at 12:30, n=5, tokens=7": "queue_full: retry at 12:30, n=5, tokens=7",
		"sluice@1.2":                                "[redacted]", // it could be one
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q becomes\n%q, want\n%q", in, got, want)
		}
	}
}

// logAll logs with every way to hand over a value, in both formats.
func logAll(t *testing.T, do func(*slog.Logger)) string {
	t.Helper()
	var out bytes.Buffer
	for _, format := range []string{"json", "text"} {
		do(newLogger(t, &out, LogConfig{Level: "debug", Format: format}))
	}
	return out.String()
}

type stringer string

func (s stringer) String() string { return string(s) }

type valuer struct{ v any }

func (v valuer) LogValue() slog.Value { return slog.AnyValue(v.v) }

type hidden struct{ inner string }

func (h hidden) MarshalJSON() ([]byte, error) { return nil, errors.New("bad " + h.inner) }

func TestAttributesAreRedacted(t *testing.T) {
	const pw = "hunter2"
	u := &url.URL{Scheme: "https", User: url.UserPassword("ann", pw), Host: "h"}
	out := logAll(t, func(l *slog.Logger) {
		ctx := context.WithValue(t.Context(), RequestIDKey{}, "password="+pw)
		l.InfoContext(ctx, "x")
		l.Info("password=" + pw)
		for _, name := range []string{"password", "X-Api-Key", "dbPassword", "client_secret", "Set-Cookie", "http.request.header.authorization", "refreshToken", "session.id"} {
			l.Info("x", name, pw)
			l.Info("x", slog.Group("a", slog.Group("b", slog.String(name, pw))))
			l.Info("x", slog.Group(name, slog.Group("b", slog.String("c", pw))))
			l.WithGroup(name).Info("x", "c", pw)
			l.WithGroup(name).With("c", pw).Info("x")
			l.With(name, pw).Info("x")
			l.Info("x", "m", map[string]string{name: pw}, "h", http.Header{name: {pw}}, "deep", []any{map[string]any{"a": map[string]any{name: pw}}})
		}
		text := "https://ann:" + pw + "@h"
		l.Info("x", "s", text, "e", errors.New(text), "error", fault.Wrap(fault.Internal, errors.New(text), "failed"), "u", u, "b", []byte(text),
			"st", stringer(text), "v", valuer{text}, "v2", valuer{slog.GroupValue(slog.String("password", pw))}, "l", []string{text},
			"p", &struct{ Password string }{pw}, "unexported", struct{ password string }{pw}, "broken", hidden{"password=" + pw}, "nil", nil, "f", func() {})
	})
	if strings.Contains(out, pw) {
		for line := range strings.Lines(out) {
			if strings.Contains(line, pw) {
				t.Errorf("shown: %s", line)
			}
		}
	}
	if n := strings.Count(out, "\n"); n != 2*(2+8*7+1) {
		t.Errorf("%d lines were written", n)
	}
	if !strings.Contains(out, `"error.message":"failed: https://[redacted]@h","error.code":"internal"`) {
		t.Errorf("the error is not as it was:\n%s", out)
	}
}

func TestHarmlessValuesAreKept(t *testing.T) {
	out := logAll(t, func(l *slog.Logger) {
		l.Info("x", "n", 1, "s", "text", "l", []int{1, 2}, "b", true, "st", stringer("st"), slog.Group("g", "k", "v"), "error", io.EOF)
	})
	for _, want := range []string{`"n":1,"s":"text","l":[1,2],"b":true,"st":"st","g":{"k":"v"},"error.message":"EOF"`, `n=1 s=text l="[1 2]" b=true st=st g.k=v error=EOF`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
}

// FuzzRedact: secrets do not show wherever they stand, what does not look
// suspicious holds none, and no input upsets it.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"", "a ", "\"", "x=", "https://", "Authorization: ", "[redacted]", "password=", "Bearer ", "eyJ", "-----BEGIN ", "\\\"", "é@"} {
		f.Add(s, s)
	}
	secrets := []string{
		"slc_live_Zq0123456789abcdefghijABCDEFG_a1b2c3", "whsec_Zq5aG93IG1lIHRoZSBtb25leQ==", "eyJZq0xNiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0",
		"https://ann:Zq12345@host.example/x", "Zq.lee@example.org", "-----BEGIN PRIVATE KEY-----\nZq9w\n-----END PRIVATE KEY-----",
		"Bearer Zq0123456789012345", "&password=Zq012345&",
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "Zq") {
			return
		}
		for _, s := range secrets {
			// A secret that touches other letters is another word.
			if got := Redact(before + " " + s + " " + after); strings.Contains(got, "Zq") {
				t.Errorf("%q shows %q", before+" "+s+" "+after, got)
			}
		}
		if s := before + after; !suspicious(s) {
			clean := s
			for _, p := range patterns {
				clean = p.find.ReplaceAllString(clean, p.replace)
			}
			if clean = hideValues(clean); clean != s {
				t.Errorf("%q is not suspicious, but becomes %q", s, clean)
			}
		}
	})
}

// BenchmarkRedactor measures what the layer adds to an ordinary access line.
func BenchmarkRedactor(b *testing.B) {
	attrs := []slog.Attr{
		slog.String("http.request.method", "POST"), slog.String("http.route", "/v2/models/{model}/infer"), slog.String("url.path", "/v2/models/iris/infer"),
		slog.Int("http.response.status_code", 200), slog.Int64("http.response.body.bytes", 1234), slog.Int64("event.duration", 123456),
		slog.String("client.address", "127.0.0.1:54321"), slog.Bool("aborted", false), slog.String("http.request.id", "01JDKX9W3C5V8Q2M7N4P6R0T"),
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "request served", 0)
	r.AddAttrs(attrs...)
	h := redactor{Handler: slog.DiscardHandler}
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(b.Context(), r)
	}
}
