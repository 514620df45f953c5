package oip

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Status returns the HTTP status that the protocol answers err with. It is the
// platform's, but where Triton has one of its own.
func Status(err error) int {
	status, _ := web.Status(err)
	switch {
	case isRouting(err):
		return status
	case fault.Is(err, fault.Conflict):
		return http.StatusBadRequest
	case status == http.StatusGatewayTimeout:
		return http.StatusServiceUnavailable
	}
	return status
}

func isRouting(err error) bool {
	_, ok := errors.AsType[*echo.HTTPError](err)
	return ok
}

// ErrorHandler is WriteError in the form of an echo.HTTPErrorHandler. The
// server must use it for every path below /v2: also for those that it has no
// route for, and for panics, which must reach it as errors.
func ErrorHandler(err error, c echo.Context) { WriteError(c, err) }

// WriteError answers with err in the protocol's shape, {"error": "..."}, and
// with Retry-After where it is known when to try again. It does nothing if an
// answer has begun.
func WriteError(c echo.Context, err error) {
	if c.Response().Committed {
		return
	}
	_, text := web.Status(err)
	h := c.Response().Header()
	web.SetRetryAfter(h, err)
	h["Content-Type"] = jsonContent
	c.Response().WriteHeader(Status(err))
	if c.Request().Method != http.MethodHead {
		// A client that has gone cannot be told so.
		_, _ = c.Response().Write(appendError(nil, text))
	}
}

func appendError(b []byte, text string) []byte {
	b = append(b, `{"error":`...)
	return append(tensorjson.AppendText(b, text), '}')
}
