package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/limit"
	"sluice/internal/platform/web/problem"
)

func TestOperations(t *testing.T) {
	b := start(t, setting{})
	made := b.send("POST", "/v1/widgets", `{"name":"cog","size":3}`, writer)
	want := `{"id":"w1","name":"cog","size":3,"made":"2026-01-02T03:04:05.006Z"}` + "\n"
	if made.StatusCode != 201 || made.text != want || made.Header.Get("Location") != "/v1/widgets/w1" || made.Header.Get("ETag") != `"1"` {
		t.Errorf("created %d %s %v", made.StatusCode, made.text, made.Header)
	}
	for name, value := range map[string]string{
		"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Strict-Transport-Security": "", "Content-Type": "application/json",
	} {
		if got := made.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if id := made.Header.Get("Request-Id"); id == "" || id != made.Header.Get("X-Request-Id") {
		t.Errorf("the request ids are %q and %q", id, made.Header.Get("X-Request-Id"))
	}
	if got := b.send("GET", "/v1/widgets/w1", "", reader); got.StatusCode != 200 || got.text != want {
		t.Errorf("read %d %s", got.StatusCode, got.text)
	}
	if got := b.send("GET", "/v1/widgets?limit=1", "", reader); got.text != `{"data":[`+strings.TrimSpace(want)+`],"has_more":false}`+"\n" {
		t.Errorf("listed %s", got.text)
	}
	head := b.send("HEAD", "/v1/widgets/w1", "", reader)
	if head.StatusCode != 200 || head.text != "" || head.Header.Get("ETag") != `"1"` || head.ContentLength != int64(len(want)) {
		t.Errorf("HEAD: %d %q %v", head.StatusCode, head.text, head.Header)
	}
	options := b.send("OPTIONS", "/v1/widgets/w1", "", "")
	if allow := options.Header.Get("Allow"); options.StatusCode != 204 || !strings.Contains(allow, "GET") || !strings.Contains(allow, "PUT") || !strings.Contains(allow, "HEAD") {
		t.Errorf("OPTIONS: %d, Allow %q", options.StatusCode, allow)
	}
}

func TestEmptyListIsAList(t *testing.T) {
	b := start(t, setting{})
	if got := b.send("GET", "/v1/widgets", "", reader); got.text != `{"data":[],"has_more":false}`+"\n" {
		t.Errorf("listed %s", got.text)
	}
}

// Every route that is not public refuses every credential that is not enough.
func TestEveryRouteNeedsItsPermission(t *testing.T) {
	b := start(t, setting{})
	protected := 0
	for _, r := range b.server.Routes() {
		path := strings.ReplaceAll(r.Path, ":id", "w1")
		if r.Permission == web.Public {
			if got := b.send(r.Method, path, "", ""); got.StatusCode != 200 {
				t.Errorf("%s %s is public, and answered %d", r.Method, path, got.StatusCode)
			}
			continue
		}
		protected++
		for credential, want := range map[string]int{"": 401, "nonsense": 401, reader: 403} {
			if credential == reader && r.Permission == canRead {
				continue
			}
			got := b.send(r.Method, path, "", credential)
			if got.StatusCode != want {
				t.Errorf("%s %s with credential %q answered %d, want %d", r.Method, path, credential, got.StatusCode, want)
			}
			if got.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: challenge %q", r.Method, path, got.Header.Get("WWW-Authenticate"))
			}
		}
	}
	if protected != 6 { // GET with HEAD twice, POST, PUT
		t.Errorf("%d protected routes", protected)
	}
}

func TestServerRefusesRoutesWithoutPermission(t *testing.T) {
	nothing := func(context.Context, *struct{}) (*struct{}, error) { return nil, nil }
	for name, tc := range map[string]struct {
		more func(*echo.Echo, *bed)
		want string
	}{
		"no permission": {func(_ *echo.Echo, b *bed) {
			Register(b.api, Operation{ID: "x", Method: "GET", Path: "/x", Summary: "x"}, nothing)
		}, "has no permission"},
		"huma itself": {func(_ *echo.Echo, b *bed) {
			huma.Register(b.api.huma, huma.Operation{Method: "GET", Path: "/x"}, nothing)
		}, "use api.Register"},
		"raw route": {func(e *echo.Echo, _ *bed) { e.GET("/x", func(echo.Context) error { return nil }) }, "not in the table"},
		"unknown":   {func(e *echo.Echo, b *bed) { b.routes.On(e, web.Always("")).Add("GET", "/x", nil) }, "has no permission"},
		"twice":     {func(_ *echo.Echo, b *bed) { b.register() }, "duplicate operation ID"},
		"no summary": {func(_ *echo.Echo, b *bed) {
			Register(b.api, Operation{ID: "x", Method: "GET", Path: "/x", Permission: canRead}, nothing)
		}, "summary"},
		"key for GET": {func(_ *echo.Echo, b *bed) {
			Register(b.api, Operation{ID: "x", Method: "GET", Path: "/x", Summary: "x", Permission: canRead, Idempotency: KeyRequired}, nothing)
		}, "Idempotency-Key"},
		"no method": {func(_ *echo.Echo, b *bed) {
			Register(b.api, Operation{ID: "x", Path: "/x", Summary: "x", Permission: canRead}, nothing)
		}, "method must be specified"},
	} {
		b := &bed{t: t, log: &logBuffer{}}
		if err := b.build(setting{more: tc.more}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the server says %v", name, err)
		}
	}
}

func TestProblems(t *testing.T) {
	b := start(t, setting{})
	type p = problem.Problem
	for name, tc := range map[string]struct {
		got  answer
		want p
	}{
		"route":  {b.send("GET", "/v1/nowhere", "", writer), p{Status: 404, Code: "route_not_found"}},
		"thing":  {b.send("GET", "/v1/widgets/none", "", writer), p{Status: 404, Code: "not_found"}},
		"method": {b.send("DELETE", "/v1/widgets", "", writer), p{Status: 405, Code: "method_not_allowed"}},
		"field": {b.send("POST", "/v1/widgets", `{"neme":"x","part":{"materiel":"tin"}}`, writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{
			{Code: "missing_field", Detail: "expected required property name to be present"},
			{Pointer: "#/part/materiel", Code: "unknown_field", Detail: `there is no such field: did you mean "material"?`},
			{Pointer: "#/neme", Code: "unknown_field", Detail: `there is no such field: did you mean "name"?`},
		}}},
		"letter case": {b.send("POST", "/v1/widgets", `{"Name":"x","name":"x"}`, writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{
			{Pointer: "#/Name", Code: "unknown_field", Detail: `there is no such field: did you mean "name"?`},
		}}},
		"type": {b.send("POST", "/v1/widgets", `{"name":"x","size":"secret-canary"}`, writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{
			{Pointer: "#/size", Code: "invalid_value", Detail: "expected integer"},
		}}},
		"element": {b.send("POST", "/v1/widgets", `{"name":"x","tags":["a",2]}`, writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{
			{Pointer: "#/tags/1", Code: "invalid_value", Detail: "expected string"},
		}}},
		"syntax": {b.send("POST", "/v1/widgets", "{\"name\":\n\"x\",}", writer), p{Status: 400, Code: "malformed_body", Errors: []problem.Violation{
			{Line: 2, Code: "malformed_json", Detail: "line 2, byte 5: invalid character '}' looking for beginning of object key string"},
		}}},
		"empty":   {b.send("POST", "/v1/widgets", "", writer, "Content-Type", "application/json"), p{Status: 400, Code: "malformed_body"}},
		"large":   {b.send("POST", "/v1/widgets", `{"name":"`+strings.Repeat("x", 5000)+`"}`, writer), p{Status: 413, Code: "body_too_large"}},
		"type 2":  {b.send("POST", "/v1/widgets", `name=x`, writer, "Content-Type", "application/x-www-form-urlencoded"), p{Status: 415, Code: "unsupported_media_type"}},
		"coding":  {b.send("POST", "/v1/widgets", `{"name":"x"}`, writer, "Content-Encoding", "lzma"), p{Status: 415, Code: "unsupported_media_type"}},
		"accept":  {b.send("GET", "/v1/widgets", "", writer, "Accept", "text/csv, application/json;q=0"), p{Status: 406, Code: "not_acceptable"}},
		"missing": {b.send("GET", "/v1/widgets?limit=0", "", writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{{Parameter: "query.limit", Code: "invalid_value", Detail: "expected number >= 1"}}}},
		"query": {b.send("GET", "/v1/widgets?colour=red", "", writer), p{Status: 422, Code: "validation_failed", Errors: []problem.Violation{
			{Parameter: "query.colour", Code: "unknown_parameter", Detail: `there is no such parameter: did you mean "color"?`},
		}}},
		"two credentials": {b.send("GET", "/v1/widgets", "", writer, "X-Api-Key", writer), p{Status: 401, Code: "credential_ambiguous"}},
	} {
		got := tc.got.problem(t)
		if got.Status != tc.want.Status || got.Code != tc.want.Code || !cmp.Equal(got.Errors, tc.want.Errors) && !sameErrors(got.Errors, tc.want.Errors) {
			t.Errorf("%s: got %s", name, tc.got.text)
		}
		if got.Type != "/problems/"+got.Code && got.Code != "credential_invalid" {
			t.Errorf("%s: type %q for code %q", name, got.Type, got.Code)
		}
		if !strings.HasPrefix(got.Instance, "/v1/") || strings.Contains(tc.got.text, "canary") || tc.got.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: got %s %v", name, tc.got.text, tc.got.Header)
		}
	}
	if got := b.send("DELETE", "/v1/widgets", "", writer).Header.Get("Allow"); !strings.Contains(got, "POST") {
		t.Errorf("Allow is %q", got)
	}
	b.unchecked = true
	if got := b.send("GET", "/elsewhere", "", ""); got.text != `{"error":"Not Found"}`+"\n" {
		t.Errorf("outside of the API: %s", got.text)
	}
}

// sameErrors ignores the order, which huma leaves to a map.
func sameErrors(a, b []problem.Violation) bool {
	for _, d := range a {
		found := false
		for _, e := range b {
			found = found || d == e
		}
		if !found {
			return false
		}
	}
	return len(a) == len(b)
}

func TestFailuresOfOperations(t *testing.T) {
	b := start(t, setting{})
	for _, tc := range []struct {
		err        error
		status     int
		code       string
		typ        string
		retryable  bool
		retryAfter string
	}{
		{fault.New(fault.Conflict, "sold").WithCode("widget_sold"), 409, "widget_sold", "/problems/widget_sold", false, ""},
		{fault.New(fault.Conflict, "odd").WithCode("never_described"), 409, "never_described", "/problems/conflict", false, ""},
		{fault.New(fault.Conflict, "busy").WithRetryAfter(3 * time.Second), 409, "conflict", "/problems/conflict", false, "3"},
		{fault.New(fault.Unavailable, "full").WithCode("queue_full"), 503, "queue_full", "/problems/queue_full", true, "1"},
		{fault.New(fault.Exhausted, "enough").WithRetryAfter(7 * time.Second), 429, "exhausted", "/problems/exhausted", true, "7"},
		{context.DeadlineExceeded, 504, "deadline_exceeded", "/problems/deadline_exceeded", true, ""},
		{errors.New("canary: dial 10.0.0.1: password refused"), 500, "internal", "/problems/internal", false, ""},
		{fault.Wrap(fault.Internal, errors.New("canary"), "the widget cannot be read"), 500, "internal", "/problems/internal", false, ""},
		{fault.New(fault.Unprocessable, "bad rows").WithDetails(fault.Detail{Line: 7, Code: "empty", Message: "no name"}), 422, "unprocessable", "/problems/unprocessable", false, ""},
	} {
		b.mu.Lock()
		b.fail = tc.err
		b.mu.Unlock()
		got := b.send("POST", "/v1/widgets", `{"name":"x"}`, writer)
		p := got.problem(t)
		if p.Status != tc.status || p.Code != tc.code || p.Type != tc.typ || p.Retryable != tc.retryable || got.Header.Get("Retry-After") != tc.retryAfter {
			t.Errorf("%v: got %s with Retry-After %q", tc.err, got.text, got.Header.Get("Retry-After"))
		}
		if strings.Contains(got.text, "canary") {
			t.Errorf("the answer shows internals: %s", got.text)
		}
		if tc.status == 422 && (len(p.Errors) != 1 || p.Errors[0].Line != 7) {
			t.Errorf("the details are lost: %s", got.text)
		}
	}
	waitFor(t, func() bool {
		return strings.Count(b.log.String(), "canary") == 2 && strings.Count(b.log.String(), `"level":"ERROR"`) == 2
	})
}

func TestPanicIsAProblem(t *testing.T) {
	b := start(t, setting{more: func(_ *echo.Echo, b *bed) {
		Register(b.api, Operation{ID: "panic", Method: "GET", Path: "/panic", Summary: "Panic", Permission: canRead},
			func(context.Context, *struct{}) (*struct{}, error) { panic("canary") })
	}})
	if got := b.send("GET", "/v1/panic", "", reader); got.problem(t).Code != "panic" || strings.Contains(got.text, "canary") {
		t.Errorf("got %s", got.text)
	}
}

func TestTimeouts(t *testing.T) {
	b := start(t, setting{api: func(c *Config) { c.Timeout = 20 * time.Millisecond }, more: func(_ *echo.Echo, b *bed) {
		wait := func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(200 * time.Millisecond):
				return &struct{}{}, nil
			}
		}
		Register(b.api, Operation{ID: "slow", Method: "POST", Path: "/slow", Summary: "Wait", Permission: canRead}, wait)
		Register(b.api, Operation{ID: "stream", Method: "POST", Path: "/stream", Summary: "Stream", Permission: canRead, Stream: true}, wait)
	}})
	if got := b.send("POST", "/v1/slow", "", reader); got.problem(t).Status != 504 {
		t.Errorf("got %s", got.text)
	}
	if got := b.send("POST", "/v1/stream", "", reader); got.StatusCode != 204 {
		t.Errorf("a stream is cut: %d %s", got.StatusCode, got.text)
	}
}

// What an operation flushes arrives, whatever the client would decompress.
func TestStreamsAreNotHeldBack(t *testing.T) {
	gate := make(chan struct{})
	b := start(t, setting{more: func(_ *echo.Echo, b *bed) {
		Register(b.api, Operation{ID: "stream", Method: "GET", Path: "/stream", Summary: "Stream", Permission: canRead, Stream: true, Produces: []string{"text/event-stream"}},
			func(context.Context, *struct{}) (*struct{ Body func(huma.Context) }, error) {
				return &struct{ Body func(huma.Context) }{func(ctx huma.Context) {
					ctx.SetHeader("Content-Type", "text/event-stream")
					w := ctx.BodyWriter().(http.ResponseWriter)
					for range 3 {
						_, _ = w.Write([]byte("data: x\n\n"))
						_ = http.NewResponseController(w).Flush()
						<-gate
					}
				}}, nil
			})
	}})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+b.server.Addr()+"/v1/stream", nil)
	r.Header.Set("Authorization", "Bearer "+reader)
	r.Header.Set("Accept-Encoding", "gzip, br, zstd")
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 { // each event arrives while the next one waits
		event := make([]byte, 9)
		if n, err := resp.Body.Read(event); err != nil || string(event[:n]) != "data: x\n\n" {
			t.Fatalf("read %q, %v", event[:n], err)
		}
		gate <- struct{}{}
	}
}

func TestRequestsAreInflated(t *testing.T) {
	b := start(t, setting{})
	pack := func(text string) string {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, _ = w.Write([]byte(text))
		w.Close()
		return buf.String()
	}
	if got := b.send("POST", "/v1/widgets", pack(`{"name":"packed"}`), writer, "Content-Encoding", "gzip"); got.StatusCode != 201 {
		t.Errorf("got %d %s", got.StatusCode, got.text)
	}
	bomb := b.send("POST", "/v1/widgets", pack(`{"name":"`+strings.Repeat("x", 1<<20)+`"}`), writer, "Content-Encoding", "gzip")
	if p := bomb.problem(t); p.Status != 413 {
		t.Errorf("a bomb: %s", bomb.text)
	}
	if p := b.send("POST", "/v1/widgets", "no gzip", writer, "Content-Encoding", "gzip").problem(t); p.Status != 400 || p.Code != "malformed_encoding" {
		t.Errorf("nonsense: %+v", p)
	}
}

func TestAnswersAreCompressed(t *testing.T) {
	b := start(t, setting{})
	for range 40 {
		b.send("POST", "/v1/widgets", `{"name":"a widget with a rather long name"}`, writer)
	}
	got := b.send("GET", "/v1/widgets", "", reader, "Accept-Encoding", "gzip")
	zr, err := gzip.NewReader(strings.NewReader(got.text))
	if err != nil || got.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(got.Header.Get("Vary"), "Accept-Encoding") {
		t.Fatalf("got %v, %v", got.Header, err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(zr); err != nil || !strings.HasPrefix(plain.String(), `{"data":[`) {
		t.Errorf("inflated %q, %v", plain.String(), err)
	}
}

func TestQuotas(t *testing.T) {
	limits, err := limit.New(limit.NewMemory(time.Now, 1000), limit.Config{
		Tenant: limit.Policy{Quota: 3, Window: time.Hour}, Key: limit.Policy{Quota: 2, Window: time.Hour}, Jitter: func() float64 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, setting{limits: limits})
	first := b.send("GET", "/v1/widgets", "", reader)
	if got := first.Header.Get("RateLimit-Policy"); got != `"key";q=2;w=3600, "tenant";q=3;w=3600` {
		t.Errorf("RateLimit-Policy: %s", got)
	}
	if got := first.Header.Get("RateLimit"); got != `"key";r=1;t=1800, "tenant";r=2;t=1200` {
		t.Errorf("RateLimit: %s", got)
	}
	b.send("GET", "/v1/widgets", "", reader)
	refused := b.send("GET", "/v1/widgets", "", reader)
	if p := refused.problem(t); p.Status != 429 || p.Code != "rate_limited" || !p.Retryable || refused.Header.Get("Retry-After") != "1800" {
		t.Errorf("got %s, Retry-After %s", refused.text, refused.Header.Get("Retry-After"))
	}
	if got := b.send("GET", "/v1/widgets", "", writer); got.StatusCode != 200 {
		t.Errorf("another key of the tenant: %d", got.StatusCode)
	}
	if got := b.send("GET", "/v1/widgets", "", writer); got.StatusCode != 429 || !strings.Contains(got.text, `\"tenant\"`) {
		t.Errorf("beyond the tenant's quota: %d %s", got.StatusCode, got.text)
	}
	if got := b.send("GET", "/v1/widgets", "", stranger); got.StatusCode != 200 {
		t.Errorf("another tenant: %d", got.StatusCode)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}
