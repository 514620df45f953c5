package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"sluice/internal/platform/audit"
	"sluice/internal/platform/web"
)

// publicRoutes are all routes that need no credential. Whoever adds one has to
// add it here, too.
var publicRoutes = []string{
	"GET /", "GET /v2/health/live", "GET /v2/health/ready", "POST /v1/sessions",
	"PUT /v1/uploads/:id/parts/:number", // its address is signed
	"GET /v1/openapi.json", "HEAD /v1/openapi.json", "GET /v1/openapi.yaml", "HEAD /v1/openapi.yaml",
	"GET /redoc", "HEAD /redoc", "GET /redoc/*", "HEAD /redoc/*",
	"GET /docs", "HEAD /docs", "GET /docs/*", "HEAD /docs/*", "GET /problems", "HEAD /problems", "GET /problems/*", "HEAD /problems/*",
}

// TestWalk goes through the table of routes and the list of gRPC methods with
// every credential, role, scope and tenant. A route that is new is walked without
// being named anywhere; where that takes more than the table says, it fails until
// somebody says it.
func TestWalk(t *testing.T) {
	w := newWorld(t)
	t.Run("public", w.walkPublic)
	t.Run("credentials", w.walkCredentials)
	t.Run("permissions", w.walkPermissions)
	t.Run("tenants", w.walkTenants)
	t.Run("grpc", w.walkMethods)
	t.Run("audit", w.walkAudit)
	t.Run("problems", w.walkProblems)
}

func (w *world) walkPublic(t *testing.T) {
	var public []string
	for _, r := range w.http.Routes() {
		if r.Permission == web.Public {
			public = append(public, r.Method+" "+r.Path)
		}
	}
	for _, name := range public {
		if !slices.Contains(publicRoutes, name) {
			t.Errorf("%s is public: if that is meant, add it to publicRoutes", name)
		}
	}
	for _, name := range publicRoutes {
		if !slices.Contains(public, name) {
			t.Errorf("%s is not public, or not there", name)
		}
	}
}

// guarded are the routes that need a permission.
func (w *world) guarded(t *testing.T) []web.Route {
	t.Helper()
	guarded := slices.DeleteFunc(w.http.Routes(), func(r web.Route) bool { return r.Permission == web.Public })
	if len(guarded) < 60 {
		t.Fatalf("%d routes need a permission: is that the whole table?", len(guarded))
	}
	return guarded
}

func (w *world) walkCredentials(t *testing.T) {
	for _, r := range w.guarded(t) {
		path := at(r, "x")
		none := w.send(t, r.Method, path, "", "")
		if none.status != http.StatusUnauthorized || none.header.Get("WWW-Authenticate") != `Bearer realm="sluice"` {
			t.Errorf("%s %s without a credential answers %d, challenge %q", r.Method, r.Path, none.status, none.header.Get("WWW-Authenticate"))
		}
		told := map[string]string{}
		for name, header := range w.bad {
			got := w.request(t, r.Method, path, "", header)
			if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != `Bearer realm="sluice", error="invalid_token"` {
				t.Errorf("%s %s with a bad credential (%s) answers %d, challenge %q", r.Method, r.Path, name, got.status, got.header.Get("WWW-Authenticate"))
			}
			told[name] = got.shown()
		}
		for _, name := range alike {
			if told[name] != told["unknown"] {
				t.Errorf("%s %s tells a key that is %s from one that never was:\n%s\n%s", r.Method, r.Path, name, told[name], told["unknown"])
			}
		}
	}
}

func (w *world) walkPermissions(t *testing.T) {
	for _, r := range w.guarded(t) {
		if err := (audit.Entry{ID: "evt_1", Action: action(r), Outcome: audit.Denied}).Validate(); err != nil {
			t.Errorf("%s %s: a denial cannot be audited as it is: %v", r.Method, r.Path, err)
		}
		let := 0
		for _, key := range w.keys {
			body := ""
			if r.Method == http.MethodPost || r.Method == http.MethodPatch {
				body = "{}"
			}
			got := w.send(t, r.Method, at(r, "x"), body, key.secret)
			if key.allowed.Has(r.Permission) {
				let++
				if got.status == 401 || got.status == 403 || got.status >= 500 && got.status != http.StatusNotImplemented {
					t.Errorf("%s %s with %s, which has %s, answers %d %s", r.Method, r.Path, key.name, r.Permission, got.status, got.body)
				}
				continue
			}
			if got.status != http.StatusForbidden || got.header.Get("WWW-Authenticate") != `Bearer realm="sluice", error="insufficient_scope"` {
				t.Errorf("%s %s with %s, which lacks %s, answers %d %s", r.Method, r.Path, key.name, r.Permission, got.status, got.body)
			}
			if r.Method != http.MethodHead && !strings.Contains(got.body, string(r.Permission)) {
				t.Errorf("%s %s does not say that %s is missing: %s", r.Method, r.Path, r.Permission, got.body)
			}
		}
		if let == 0 {
			t.Errorf("no key has %s, which %s %s needs: is it declared?", r.Permission, r.Method, r.Path)
		}
	}
}

// walkProblems is last: every code that was answered on the walk is described.
func (w *world) walkProblems(t *testing.T) {
	if len(w.codes) < 8 {
		t.Errorf("only %d codes were seen: does the walk reach the API?", len(w.codes))
	}
	for code := range w.codes {
		if got := w.send(t, "GET", "/problems/"+code, "", ""); got.status != 200 || !strings.Contains(got.body, code) {
			t.Errorf("the problem %s was answered, and is not described", code)
		}
	}
}
