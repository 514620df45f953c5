package docs

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/swaggest/swgui/v5/static"

	"sluice/internal/platform/web/problem"
)

func handler(t *testing.T) http.Handler {
	t.Helper()
	catalog, err := problem.NewCatalog("")
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Title: "Widgets <&>", Versions: []Version{{"v2", "/v2/openapi.json"}, {"v1", "/v1/openapi.json"}}, Problems: catalog})
}

func get(t *testing.T, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r, rec := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	handler(t).ServeHTTP(rec, r)
	return rec
}

var loaded = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

// Everything that a page loads is here: it works without the Internet.
func TestPagesWorkOffline(t *testing.T) {
	for _, page := range []string{"/docs", "/redoc", "/redoc/v1", "/problems", "/problems/internal"} {
		rec := get(t, page)
		text := rec.Body.String()
		if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") || !strings.Contains(text, "Widgets &lt;&amp;&gt;") {
			t.Errorf("%s: %d %v", page, rec.Code, rec.Header())
		}
		if strings.Contains(text, "://") || regexp.MustCompile(`(?:src|href)="//`).MatchString(text) {
			t.Errorf("%s refers to another server: %s", page, text)
		}
		if strings.Contains(text, "<script>") {
			t.Errorf("%s has a script in itself, which its policy forbids", page)
		}
		for _, m := range loaded.FindAllStringSubmatch(text, -1) {
			asset := get(t, m[1])
			if asset.Code != 200 || asset.Body.Len() == 0 {
				t.Errorf("%s loads %s, which gives %d", page, m[1], asset.Code)
			}
		}
		csp := rec.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %q", page, csp, want)
			}
		}
		if strings.Contains(csp, "http") || strings.Contains(csp, "unsafe-eval") {
			t.Errorf("%s: the policy is %q", page, csp)
		}
	}
	for _, script := range []string{"/docs/start.js", "/redoc/start.js"} {
		if text := get(t, script).Body.String(); strings.Contains(text, "://") {
			t.Errorf("%s refers to another server: %s", script, text)
		}
	}
}

func TestVersions(t *testing.T) {
	if got := get(t, "/docs/versions.json").Body.String(); got != `[{"name":"v2","url":"/v2/openapi.json"},{"name":"v1","url":"/v1/openapi.json"}]`+"\n" {
		t.Errorf("versions %s", got)
	}
	for page, want := range map[string]string{"/redoc": `data-document="/v2/openapi.json"`, "/redoc/v2": `data-document="/v2/openapi.json"`, "/redoc/v1": `data-document="/v1/openapi.json"`} {
		if text := get(t, page).Body.String(); !strings.Contains(text, want) {
			t.Errorf("%s: %s", page, text)
		}
	}
}

// The files that are stored with gzip reach every client.
func TestStoredFilesAreInflatedWhereNeeded(t *testing.T) {
	for _, path := range []string{"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/redoc/redoc.standalone.js"} {
		plain := get(t, path).Body.String()
		for accept, coded := range map[string]bool{"gzip, br": true, "*": true, "gzip;q=0": false, "br": false} {
			rec := get(t, path, "Accept-Encoding", accept)
			if got := rec.Header().Get("Content-Encoding") == "gzip"; got != coded {
				t.Errorf("%s for %q: %v", path, accept, rec.Header())
			}
			var body io.Reader = rec.Body
			if coded {
				zr, err := gzip.NewReader(body)
				if err != nil {
					t.Fatal(err)
				}
				body = zr
			}
			if text, err := io.ReadAll(body); err != nil || string(text) != plain {
				t.Errorf("%s for %q: %d bytes of %d, %v", path, accept, len(text), len(plain), err)
			}
		}
	}
	if _, err := static.FS.Open("swagger-ui.css.gz"); err != nil {
		t.Error(err)
	}
}

// The bundle is the one whose licences are listed.
func TestBundleIsTheLicensedOne(t *testing.T) {
	licences, err := assets.ReadFile("assets/LICENSES.txt")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(get(t, "/redoc/redoc.standalone.js").Body.Bytes())
	if !strings.Contains(string(licences), hex.EncodeToString(sum[:])) {
		t.Errorf("the bundle has the SHA-256 %x, which LICENSES.txt does not name", sum)
	}
}

func TestProblemsForPrograms(t *testing.T) {
	var types []problem.Type
	if err := json.Unmarshal(get(t, "/problems/rate_limited", "Accept", "application/json").Body.Bytes(), &types); err != nil || len(types) != 1 || types[0].Code != "rate_limited" {
		t.Errorf("%+v, %v", types, err)
	}
	for _, path := range []string{"/problems/none", "/docs/none", "/docs/../redoc/none", "/redoc/none"} {
		if rec := get(t, path); rec.Code == 200 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}
