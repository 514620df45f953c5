package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

func corsServer(t *testing.T, policy *CORS) *Server {
	t.Helper()
	cfg := testConfig()
	cfg.CORS = policy
	s, err := New(cfg, func(e *echo.Echo) {
		e.POST("/x", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const console = "https://console.example"

func TestCORS(t *testing.T) {
	s := corsServer(t, &CORS{Origins: []string{console}, Credentials: true})
	for _, tc := range []struct {
		method, origin string
		preflight      bool
		allowed        string
		status         int
	}{
		{"POST", console, false, console, 200}, {"OPTIONS", console, true, console, 204}, {"OPTIONS", console, false, console, 204},
		{"OPTIONS", "https://evil.example", true, "", 204}, {"POST", "https://evil.example", false, "", 403}, {"POST", "null", false, "", 403},
		{"OPTIONS", "null", true, "", 204}, {"OPTIONS", console + ".evil.example", true, "", 204}, {"OPTIONS", "http://console.example", true, "", 204}, {"POST", "", false, "", 200},
	} {
		var headers []string
		if tc.origin != "" {
			headers = append(headers, "Origin", tc.origin)
		}
		if tc.preflight {
			headers = append(headers, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-odd")
		}
		rec := ask(s, tc.method, "/x", headers...)
		h := rec.Header()
		if rec.Code != tc.status || h.Get("Access-Control-Allow-Origin") != tc.allowed || (h.Get("Access-Control-Allow-Credentials") == "true") != (tc.allowed != "") {
			t.Errorf("%+v: %d %v", tc, rec.Code, h)
		}
		if methods := h.Get("Access-Control-Allow-Methods"); (methods != "") != (tc.preflight && tc.allowed != "") || strings.Contains(h.Get("Access-Control-Allow-Headers"), "odd") {
			t.Errorf("%+v: %v", tc, h)
		}
		if tc.status != 403 && h.Get("Vary") != "Origin" {
			t.Errorf("%+v: Vary %q", tc, h.Get("Vary"))
		}
	}
}

func TestCORSForEverybody(t *testing.T) {
	h := ask(corsServer(t, &CORS{Origins: []string{"*"}}), "OPTIONS", "/x", "Origin", console, "Access-Control-Request-Method", "POST").Header()
	if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("%v", h)
	}
	if h := ask(corsServer(t, nil), "OPTIONS", "/x", "Origin", console, "Access-Control-Request-Method", "POST").Header(); h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without a policy: %v", h)
	}
}

func TestCORSIsValidated(t *testing.T) {
	for _, policy := range []CORS{
		{Origins: []string{"*"}, Credentials: true}, {Origins: []string{"*", console}}, {Origins: []string{"null"}}, {Origins: []string{"console.example"}},
		{Origins: []string{console + "/"}}, {Origins: []string{"ftp://x"}}, {Origins: []string{""}}, {Origins: []string{"https://*.example"}},
	} {
		cfg := testConfig()
		cfg.CORS = &policy
		if _, err := New(cfg, func(*echo.Echo) {}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", policy.Origins, err)
		}
	}
}
