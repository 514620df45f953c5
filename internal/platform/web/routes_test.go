package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/limit"
)

// byToken knows one credential.
func byToken(ctx context.Context, c Credentials) (context.Context, error) {
	switch {
	case c.Token == "":
		return ctx, nil
	case c.Scheme != "bearer" || c.Token != "good":
		return nil, fault.New(fault.Unauthenticated, "the credential is not valid")
	}
	return access.Enter(ctx, goodPrincipal), nil
}

var goodPrincipal = &access.Principal{Tenant: "t", Subject: "s", Permissions: access.SetOf("models:infer")}

func infers(_, path string) access.Permission {
	switch {
	case strings.HasPrefix(path, "/v2/models"):
		return "models:infer"
	case path == "/admin":
		return "models:write"
	case path == "/health":
		return Public
	}
	return ""
}

// gated is a server of routes behind the gate.
func gated(tb testing.TB, limits *limit.Limits) *Server {
	tb.Helper()
	cfg := testConfig()
	cfg.Routes = NewRoutes(byToken, limits)
	s, err := New(cfg, func(e *echo.Echo) {
		r := cfg.Routes.On(e, infers)
		r.Add("POST", "/v2/models/:model/infer", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
		r.Add("GET", "/admin", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
		r.Add("GET", "/health", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func ask(s *Server, method, path string, headers ...string) *httptest.ResponseRecorder {
	r, rec := httptest.NewRequest(method, "http://127.0.0.1"+path, nil), httptest.NewRecorder()
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	s.http.Handler.ServeHTTP(rec, r)
	return rec
}

func TestGate(t *testing.T) {
	s := gated(t, nil)
	for _, tc := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"POST", "/v2/models/x/infer", nil, 401}, {"POST", "/v2/models/x/infer", []string{"Authorization", "Bearer bad"}, 401},
		{"POST", "/v2/models/x/infer", []string{"Authorization", "BEARER good"}, 200}, {"POST", "/v2/models/x/infer", []string{"Authorization", "Basic good"}, 401},
		{"POST", "/v2/models/x/infer", []string{"Authorization", "Bearer good", "Authorization", "Bearer good"}, 401},
		{"POST", "/v2/models/x/infer", []string{"Authorization", "Bearer good", "X-Api-Key", "good"}, 401},
		{"GET", "/admin", []string{"Authorization", "Bearer good"}, 403}, {"GET", "/health", nil, 200}, {"GET", "/health", []string{"Authorization", "Bearer bad"}, 200},
		{"GET", "/nowhere", nil, 404},
	} {
		rec := ask(s, tc.method, tc.path, tc.headers...)
		challenge := map[int]string{401: `Bearer realm="sluice", error="invalid_token"`, 403: `Bearer realm="sluice", error="insufficient_scope"`}[tc.status]
		if tc.status == 401 && tc.headers == nil {
			challenge = `Bearer realm="sluice"`
		}
		if rec.Code != tc.status || rec.Header().Get("WWW-Authenticate") != challenge {
			t.Errorf("%s %s %q: %d %v", tc.method, tc.path, tc.headers, rec.Code, rec.Header())
		}
	}
	want := []Route{{"GET", "/admin", "models:write"}, {"GET", "/health", Public}, {"POST", "/v2/models/:model/infer", "models:infer"}}
	if diff := cmp.Diff(want, s.Routes()); diff != "" {
		t.Error(diff)
	}
}

// Whoever is turned away is told to Refused, with who it is where that is known.
func TestRefusalsAreTold(t *testing.T) {
	s := gated(t, nil)
	var told []string
	s.cfg.Routes.Refused = func(ctx context.Context, route Route, err error) {
		p, _ := access.From(ctx)
		told = append(told, fmt.Sprintf("%t %v %s", p != nil, route, fault.CodeOf(err)))
	}
	for _, headers := range [][]string{nil, {"Authorization", "Bearer bad"}, {"X-Api-Key", "a", "Authorization", "b"}, {"Authorization", "Bearer good"}} {
		ask(s, "GET", "/admin", headers...)
		ask(s, "GET", "/health", headers...)
	}
	ask(s, "POST", "/v2/models/secret-name/infer", "Authorization", "Bearer bad")
	ask(s, "POST", "/v2/models/x/infer", "Authorization", "Bearer good")
	want := []string{
		"false {GET /admin models:write} credential_missing", "false {GET /admin models:write} unauthenticated",
		"false {GET /admin models:write} credential_ambiguous", "true {GET /admin models:write} permission_missing",
		"false {POST /v2/models/:model/infer models:infer} unauthenticated",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestGateHoldsToQuotas(t *testing.T) {
	limits, err := limit.New(limit.NewMemory(time.Now, 100), limit.Config{Key: limit.Policy{Quota: 1, Window: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	s := gated(t, limits)
	first := ask(s, "POST", "/v2/models/x/infer", "Authorization", "Bearer good")
	second := ask(s, "POST", "/v2/models/x/infer", "Authorization", "Bearer good")
	if first.Code != 200 || first.Header().Get("RateLimit") != "" || second.Code != 429 || second.Header().Get("RateLimit") == "" || second.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v, then %d %v", first.Code, first.Header(), second.Code, second.Header())
	}
}

func TestTableIsChecked(t *testing.T) {
	ok := func(echo.Context) error { return nil }
	for name, tc := range map[string]struct {
		add  func(*echo.Echo, *Routes)
		want string
	}{
		"a route beside the table": {func(e *echo.Echo, _ *Routes) { e.GET("/x", ok) }, "route GET /x is not in the table"},
		"no permission":            {func(e *echo.Echo, t *Routes) { t.On(e, infers).Add("GET", "/x", ok) }, "route GET /x has no permission"},
		"twice": {func(e *echo.Echo, t *Routes) {
			t.On(e, infers).Add("GET", "/health", ok)
			t.On(e, infers).Add("GET", "/health", ok)
		}, "registered twice"},
		"in a group": {func(e *echo.Echo, t *Routes) {
			t.On(e.Group("/g"), Always(Public)).Add("GET", "/x", ok)
			e.GET("/g/y", ok)
		}, "route GET /g/y is not in the table"},
	} {
		cfg := testConfig()
		cfg.Routes = NewRoutes(byToken, nil)
		if _, err := New(cfg, func(e *echo.Echo) { tc.add(e, cfg.Routes) }); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := testConfig()
	cfg.Routes = NewRoutes(nil, nil)
	if _, err := New(cfg, func(*echo.Echo) {}); err == nil || !strings.Contains(err.Error(), "no Authenticate") {
		t.Errorf("without Authenticate: %v", err)
	}
}

// Middleware that comes with a route runs behind the gate.
func TestMiddlewareIsGuardedToo(t *testing.T) {
	cfg := testConfig()
	cfg.Routes = NewRoutes(byToken, nil)
	ran := ""
	mark := func(name string) echo.MiddlewareFunc {
		return func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error { ran += name; return next(c) }
		}
	}
	s, err := New(cfg, func(e *echo.Echo) {
		cfg.Routes.On(e, Always("models:infer")).Add("GET", "/x", func(c echo.Context) error { ran += "h"; return c.NoContent(200) }, mark("a"), mark("b"))
	})
	if err != nil {
		t.Fatal(err)
	}
	ask(s, "GET", "/x")
	if ran != "" {
		t.Errorf("without a credential ran %s", ran)
	}
	ask(s, "GET", "/x", "Authorization", "Bearer good")
	if ran != "abh" {
		t.Errorf("ran %s", ran)
	}
}

func TestCredentials(t *testing.T) {
	for header, want := range map[string]Credentials{
		"Authorization: Bearer abc": {Scheme: "bearer", Token: "abc"}, "Authorization: bEaReR  abc ": {Scheme: "bearer", Token: "abc"},
		"Authorization: Basic dTpw": {Scheme: "basic", Token: "dTpw"}, "X-Api-Key: k": {Scheme: SchemeKey, Token: "k"},
		"Authorization: abc": {Scheme: "abc"}, "Authorization: ": {}, "Other: x": {},
	} {
		name, value, _ := strings.Cut(header, ": ")
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(name, value)
		got, err := CredentialsOf(r)
		want.Remote = r.RemoteAddr
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", header, got, err)
		}
	}
}

func TestHSTSOnlyWithTLS(t *testing.T) {
	s := gated(t, nil)
	if got := ask(s, "GET", "/health").Header().Get("Strict-Transport-Security"); got != "" {
		t.Errorf("without TLS: %s", got)
	}
	r, rec := httptest.NewRequest("GET", "https://127.0.0.1/health", nil), httptest.NewRecorder()
	r.TLS = &tls.ConnectionState{}
	s.http.Handler.ServeHTTP(rec, r)
	if got := rec.Header().Get("Strict-Transport-Security"); got == "" {
		t.Error("none with TLS")
	}
}
