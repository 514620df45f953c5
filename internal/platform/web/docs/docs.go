// Package docs serves the documentation of an API: Swagger UI, ReDoc, and a page
// for every kind of problem. It works without the Internet: whatever a page
// loads comes from this server, and its Content-Security-Policy forbids the rest.
//
// Known limit: the pages are at /docs, /redoc and /problems of the server's root.
package docs

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/swaggest/swgui/v5/static"

	"sluice/internal/platform/web/encode"
	"sluice/internal/platform/web/problem"
)

// Version is one version of the API.
type Version struct {
	Name string `json:"name"` // "v1"
	URL  string `json:"url"`  // path of its OpenAPI document, in JSON
}

// Config holds what the pages show.
type Config struct {
	Title    string
	Versions []Version // the first is shown first
	Problems *problem.Catalog
}

// Paths are the routes to register for the handler, all for GET and HEAD, in the
// form of net/http.ServeMux; {rest...} is a path.
var Paths = []string{"/docs", "/docs/{rest...}", "/redoc", "/redoc/{rest...}", "/problems", "/problems/{rest...}"}

//go:embed assets
var assets embed.FS

var pages = template.Must(template.ParseFS(assets, "assets/*.html"))

// policy lets pages load from this server only. Both tools set styles from
// scripts, and Swagger UI shows small images from data: addresses.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// New returns the handler of Paths.
func New(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /docs", page("swagger.html", cfg))
	mux.Handle("GET /docs/start.js", script("assets/swagger.js"))
	mux.HandleFunc("GET /docs/versions.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(cfg.Versions) // fails only where the client is gone
	})
	for _, name := range []string{"swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"} {
		mux.Handle("GET /docs/"+name, compressed(static.FS, name+".gz"))
	}
	mux.Handle("GET /docs/favicon-32x32.png", http.StripPrefix("/docs", http.FileServerFS(static.FS)))
	mux.Handle("GET /redoc/redoc.standalone.js", compressed(assets, "assets/redoc.standalone.js.gz"))
	mux.Handle("GET /redoc/start.js", script("assets/redoc.js"))
	for i, v := range cfg.Versions {
		shown := page("redoc.html", struct {
			Title   string
			Version Version
		}{cfg.Title, v})
		mux.Handle("GET /redoc/"+v.Name, shown)
		if i == 0 {
			mux.Handle("GET /redoc", shown)
		}
	}
	mux.HandleFunc("GET /problems", func(w http.ResponseWriter, r *http.Request) { problems(w, r, cfg, cfg.Problems.All(), true) })
	mux.HandleFunc("GET /problems/{code}", func(w http.ResponseWriter, r *http.Request) {
		t, ok := cfg.Problems.Lookup(r.PathValue("code"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		problems(w, r, cfg, []problem.Type{t}, false)
	})
	return secured(mux)
}

func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

func page(name string, data any) http.Handler {
	var text bytes.Buffer
	if err := pages.ExecuteTemplate(&text, name, data); err != nil {
		panic(err) // the templates are part of the program, and tests run each
	}
	return blob("text/html; charset=utf-8", text.Bytes())
}

func script(name string) http.Handler {
	text, err := fs.ReadFile(assets, name)
	if err != nil {
		panic(err) // embedded
	}
	return blob("text/javascript; charset=utf-8", text)
}

func blob(contentType string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content) // fails only where the client is gone
	})
}

// compressed serves a file that is stored with gzip: as it is to clients that
// take that, and inflated to others.
func compressed(from fs.FS, name string) http.Handler {
	contentType := "text/javascript; charset=utf-8"
	if path.Ext(strings.TrimSuffix(name, ".gz")) == ".css" {
		contentType = "text/css; charset=utf-8"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Add("Vary", "Accept-Encoding")
		f, err := from.Open(name)
		if err != nil {
			http.Error(w, "missing", http.StatusInternalServerError)
			return
		}
		defer func() { _ = f.Close() }() // only read
		var content io.Reader = f
		if takesGzip(r) {
			h.Set("Content-Encoding", "gzip")
		} else if content, err = gzip.NewReader(f); err != nil {
			http.Error(w, "damaged", http.StatusInternalServerError)
			return
		}
		_, _ = io.Copy(w, content) //nolint:gosec // a file of the program itself, no bomb; fails only where the client is gone
	})
}

func takesGzip(r *http.Request) bool {
	for _, line := range r.Header["Accept-Encoding"] {
		for item := range strings.SplitSeq(line, ",") {
			if name, q := encode.Weight(item); (name == "gzip" || name == "*") && q > 0 {
				return true
			}
		}
	}
	return false
}

// problems shows types of problems, to programs in JSON.
func problems(w http.ResponseWriter, r *http.Request, cfg Config, types []problem.Type, all bool) {
	w.Header().Add("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(types) // fails only where the client is gone
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pages.ExecuteTemplate(w, "problems.html", struct { // likewise
		Title string
		Types []problem.Type
		All   bool
	}{cfg.Title, types, all})
}
