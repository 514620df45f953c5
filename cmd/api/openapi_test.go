package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"sluice/internal/platform/web"
)

// notDescribed are routes of the protocol's extensions that are refused.
var notDescribed = []string{"/v2/systemsharedmemory/", "/v2/cudasharedmemory/", "/v2/trace/", "/v2/logging", "/v2/models/:model/trace/", "/v2/repository/:repository/"}

// The OpenAPI document is valid, and has every route that is served, with the
// permission that it needs.
func TestDocumentIsComplete(t *testing.T) {
	a, _ := startApp(t)
	_, body := fetch(t, "GET", "http://"+a.http.Addr()+"/v1/openapi.json", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableSchemaFormatValidation()); err != nil {
		t.Error(err)
	}
	served := map[string]web.Route{}
	for _, r := range a.http.Routes() {
		var parts []string
		for part := range strings.SplitSeq(r.Path, "/") {
			if name, ok := strings.CutPrefix(part, ":"); ok {
				part = "{" + name + "}"
			}
			parts = append(parts, part)
		}
		path := strings.Join(parts, "/")
		served[r.Method+" "+path] = r
		refused := slices.ContainsFunc(notDescribed, func(p string) bool { return strings.HasPrefix(r.Path, p) })
		if !strings.HasPrefix(r.Path, "/v") || r.Method == "HEAD" || strings.HasPrefix(r.Path, "/v1/openapi.") || refused {
			continue
		}
		item := doc.Paths.Value(path)
		if item == nil || item.GetOperation(r.Method) == nil {
			t.Errorf("%s %s is served, and not described", r.Method, path)
			continue
		}
		op := item.GetOperation(r.Method)
		if op.Extensions["x-permission"] != string(r.Permission) || (op.Security != nil) != (r.Permission != web.Public) {
			t.Errorf("%s %s needs %s; the document says %v", r.Method, path, r.Permission, op.Extensions["x-permission"])
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if _, ok := served[method+" "+path]; !ok {
				t.Errorf("%s %s is described, and not served", method, path)
			}
		}
	}
}
