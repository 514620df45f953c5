package api

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/docs"
	"sluice/internal/platform/web/encode"
	"sluice/internal/platform/web/problem"
)

func newDocument(cfg Config) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: cfg.Title, Version: cfg.Version, Description: cfg.Description},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer": {Type: "http", Scheme: "bearer", Description: "An API key or a token."},
				"key":    {Type: "apiKey", In: "header", Name: "X-Api-Key", Description: "An API key."},
			},
		},
	}
}

// document is a form of the OpenAPI document.
type document struct {
	content   []byte
	mediaType string
	etag      string
}

func newForm(content []byte, mediaType string) document {
	sum := sha256.Sum256(content)
	return document{content, mediaType, `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// OpenAPI returns the document in JSON. It must be complete by then: operations
// that are registered later are not in it.
func (a *API) OpenAPI() ([]byte, error) {
	forms, err := a.document()
	return forms[0].content, err
}

// serveDocument adds the routes of the document, which is made at the first
// request for it.
func (a *API) serveDocument(e *echo.Echo) {
	a.document = sync.OnceValues(func() ([2]document, error) {
		text, err := a.huma.OpenAPI().MarshalJSON()
		if err != nil {
			return [2]document{}, fault.Wrap(fault.Internal, err, "the OpenAPI document cannot be made")
		}
		yaml, err := a.huma.OpenAPI().YAML()
		if err != nil {
			return [2]document{}, fault.Wrap(fault.Internal, err, "the OpenAPI document cannot be made")
		}
		return [2]document{newForm(text, "application/json"), newForm(yaml, "application/yaml")}, nil
	})
	public := a.routes.On(e, web.Always(web.Public))
	for i, name := range []string{"json", "yaml"} {
		serve := compressed(func(c echo.Context) error {
			forms, err := a.document()
			if err != nil {
				return err
			}
			h := c.Response().Header()
			h.Set("Cache-Control", "no-cache") // kept, and revalidated
			h.Set("ETag", forms[i].etag)
			c.Response().Before(func() { revalidate(c) })
			return c.Blob(http.StatusOK, forms[i].mediaType, forms[i].content)
		})
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			public.Add(method, a.cfg.Prefix+"/openapi."+name, serve)
		}
	}
}

// Docs adds the pages of package docs for the versions of an API, the newest
// first.
func Docs(e *echo.Echo, routes *web.Routes, title string, catalog *problem.Catalog, versions ...*API) {
	cfg := docs.Config{Title: title, Problems: catalog}
	for _, a := range versions {
		cfg.Versions = append(cfg.Versions, docs.Version{Name: a.cfg.Version, URL: a.cfg.Prefix + "/openapi.json"})
	}
	serve := compressed(echo.WrapHandler(docs.New(cfg)))
	public := routes.On(e, web.Always(web.Public))
	for _, path := range docs.Paths {
		path = strings.Replace(path, "{rest...}", "*", 1)
		public.Add(http.MethodGet, path, serve)
		public.Add(http.MethodHead, path, serve)
	}
}

// compressed compresses what the handler answers.
func compressed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		res := c.Response()
		raw := res.Writer
		out := encode.Begin(raw, c.Request())
		res.Writer = out
		defer func() { res.Writer = raw }()
		if err := next(c); err != nil {
			return err
		}
		return out.Close()
	}
}
