package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Headers is part of the inputs of operations that look at headers which nobody
// could name beforehand: embed it.
type Headers struct{ header http.Header }

// Header returns the request's headers.
func (h *Headers) Header() http.Header { return h.header }

// Resolve implements huma.Resolver.
func (h *Headers) Resolve(ctx huma.Context) []error {
	h.header = http.Header{}
	ctx.EachHeader(func(name, value string) { h.header.Add(name, value) })
	return nil
}
