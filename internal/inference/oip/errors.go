package oip

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/fault"
)

// codeSlowBody marks the one deadline that HTTP has a status of its own for.
const codeSlowBody = "slow_body"

// statuses maps each kind of failure as Triton does, where it has one like it.
var statuses = [...]int{
	fault.Internal:         http.StatusInternalServerError,
	fault.Invalid:          http.StatusBadRequest,
	fault.NotFound:         http.StatusNotFound,
	fault.Conflict:         http.StatusBadRequest,
	fault.Unsupported:      http.StatusNotImplemented,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.PermissionDenied: http.StatusForbidden,
	fault.Exhausted:        http.StatusTooManyRequests,
	fault.Unavailable:      http.StatusServiceUnavailable,
	fault.DeadlineExceeded: http.StatusServiceUnavailable,
	fault.Canceled:         499, // the client has gone: nobody but the log sees it
}

// Status returns the HTTP status that the protocol answers err with.
func Status(err error) int {
	var routing *echo.HTTPError
	if errors.As(err, &routing) {
		return routing.Code
	}
	e := fault.Of(err)
	if e.Code == codeSlowBody {
		return http.StatusRequestTimeout
	}
	if int(e.Kind) < len(statuses) {
		return statuses[e.Kind]
	}
	return http.StatusInternalServerError
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
	status := Status(err)
	h := c.Response().Header()
	if wait := fault.Of(err).RetryAfter; wait > 0 {
		seconds := (wait + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	h["Content-Type"] = jsonContent
	c.Response().WriteHeader(status)
	if c.Request().Method != http.MethodHead {
		// A client that has gone cannot be told so.
		_, _ = c.Response().Write(appendError(nil, errorText(err, status)))
	}
}

// errorText returns what the client may read of err.
func errorText(err error, status int) string {
	var routing *echo.HTTPError
	if errors.As(err, &routing) {
		if text, ok := routing.Message.(string); ok && text != "" {
			return text
		}
		return http.StatusText(status)
	}
	return fault.Of(err).Message
}

func appendError(b []byte, text string) []byte {
	b = append(b, `{"error":`...)
	return append(tensorjson.AppendText(b, text), '}')
}
