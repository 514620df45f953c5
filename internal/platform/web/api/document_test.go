package api

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/web"
	"sluice/internal/platform/web/problem"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The document is OpenAPI 3.1, and changes only on purpose: run the tests with
// -update to say so.
func TestDocument(t *testing.T) {
	b := start(t, setting{more: describeElsewhere})
	got := b.send("GET", "/v1/openapi.json", "", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(got.text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil || !doc.IsOpenAPI31OrLater() {
		t.Errorf("the document is not valid: %v", err)
	}
	golden := filepath.Join("testdata", "openapi.golden.yaml")
	yaml := b.send("GET", "/v1/openapi.yaml", "", "")
	if *update {
		if err := os.WriteFile(golden, []byte(yaml.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), yaml.text); diff != "" {
		t.Errorf("the document has changed; if that is meant, run the tests with -update (-want +got):\n%s", diff)
	}
	again := b.send("GET", "/v1/openapi.json", "", "", "If-None-Match", got.Header.Get("ETag"))
	if again.StatusCode != 304 || again.text != "" {
		t.Errorf("revalidated: %d with %d bytes", again.StatusCode, len(again.text))
	}
}

// describeElsewhere adds what a raw handler serves.
func describeElsewhere(e *echo.Echo, b *bed) {
	b.routes.On(e, web.Always(canRead)).Add("GET", "/v2/models/:model", func(c echo.Context) error { return c.String(200, "raw") })
	b.api.Describe(huma.Operation{
		OperationID: "read-model", Method: "GET", Path: "/v2/models/{model}", Summary: "Read a model's metadata",
		Parameters: []*huma.Param{{Name: "model", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}},
	})
}

func TestRawRoutesAreGuardedAndDescribed(t *testing.T) {
	b := start(t, setting{more: describeElsewhere})
	b.unchecked = true // the description leaves out what raw handlers answer
	if got := b.send("GET", "/v2/models/iris", "", ""); got.StatusCode != 401 || got.text != `{"error":"this needs a credential: send an API key or a bearer token in the Authorization header"}`+"\n" {
		t.Errorf("without a credential: %d %s", got.StatusCode, got.text)
	}
	if got := b.send("GET", "/v2/models/iris", "", reader); got.StatusCode != 200 || got.text != "raw" {
		t.Errorf("with one: %d %s", got.StatusCode, got.text)
	}
}

func TestVersionsSideBySide(t *testing.T) {
	b := start(t, setting{api: func(c *Config) {
		c.Deprecated, c.Sunset = time.Unix(1_790_000_000, 0), time.Date(2027, 6, 30, 23, 59, 59, 0, time.UTC)
	}, more: func(e *echo.Echo, b *bed) {
		v2, err := New(e, b.routes, Config{Title: "Widgets", Version: "v2", Prefix: "/api/v2"})
		if err != nil {
			b.routes.Refuse(err)
			return
		}
		old := b.api
		b.api = v2
		Register(v2, Operation{ID: "list-widgets", Method: "GET", Path: "/widgets", Summary: "List widgets", Permission: canRead}, nothingAtAll)
		b.api = old
		catalog, _ := problem.NewCatalog("")
		Docs(e, b.routes, "Widgets", catalog, v2, old)
	}})
	b.unchecked = true
	v1 := b.send("GET", "/v1/widgets", "", reader)
	if v1.StatusCode != 200 || v1.Header.Get("Deprecation") != "@1790000000" || v1.Header.Get("Sunset") != "Wed, 30 Jun 2027 23:59:59 GMT" {
		t.Errorf("v1: %d %v", v1.StatusCode, v1.Header)
	}
	if v2 := b.send("GET", "/api/v2/widgets", "", reader); v2.StatusCode != 204 || v2.Header.Get("Deprecation") != "" {
		t.Errorf("v2: %d %v", v2.StatusCode, v2.Header)
	}
	if got := b.send("GET", "/api/v2/openapi.json", "", ""); strings.Contains(got.text, "/v1/") || !strings.Contains(got.text, `"/api/v2/widgets"`) {
		t.Errorf("v2's document: %s", got.text)
	}
	for path, want := range map[string]string{
		"/docs": "swagger-ui-bundle.js", "/docs/versions.json": `"/api/v2/openapi.json"`, "/redoc": "/api/v2/openapi.json", "/redoc/v1": "/v1/openapi.json",
		"/problems": "rate_limited", "/problems/rate_limited": "Retry-After", "/docs/swagger-ui.css": ".swagger-ui",
	} {
		if got := b.send("GET", path, "", ""); got.StatusCode != 200 || !strings.Contains(got.text, want) || !strings.Contains(got.Header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s: %d, %d bytes, %v", path, got.StatusCode, len(got.text), got.Header)
		}
	}
	if got := b.send("GET", "/problems/nonsense", "", ""); got.StatusCode != 404 {
		t.Errorf("an unknown problem: %d", got.StatusCode)
	}
}
