package oip

import (
	"encoding/json"
	"net/url"

	"github.com/labstack/echo/v4"
)

// The values of headers that never change, shared by all answers.
var (
	jsonContent   = []string{"application/json"}
	binaryContent = []string{"application/octet-stream"}
	eventContent  = []string{"text/event-stream; charset=utf-8"}
)

// target returns the model and version that the path names; the version is
// empty where it names none.
func target(c echo.Context) (model, version string) {
	return pathParam(c, "model"), pathParam(c, "version")
}

// pathParam returns a parameter of the path without percent escapes. Echo
// matches the escaped path only where that is not what Go would have written,
// and then leaves the escapes in.
func pathParam(c echo.Context, name string) string {
	value := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return value
	}
	if plain, err := url.PathUnescape(value); err == nil {
		return plain
	}
	return value
}

// writeJSON answers 200 with v, on routes where speed does not matter.
func writeJSON(c echo.Context, v any) error {
	c.Response().Header()["Content-Type"] = jsonContent
	c.Response().WriteHeader(200)
	e := json.NewEncoder(c.Response())
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
