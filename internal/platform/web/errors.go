package web

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
)

// CodeSlowBody marks the one deadline that HTTP has a status of its own for:
// a body that came too slowly.
const CodeSlowBody = "slow_body"

// statusClientClosed is the status that logs and metrics show where the client
// went away before its answer; nobody receives it.
const statusClientClosed = 499

var statuses = [...]int{
	fault.Internal:           http.StatusInternalServerError,
	fault.Invalid:            http.StatusBadRequest,
	fault.NotFound:           http.StatusNotFound,
	fault.Conflict:           http.StatusConflict,
	fault.Unsupported:        http.StatusNotImplemented,
	fault.TooLarge:           http.StatusRequestEntityTooLarge,
	fault.Unauthenticated:    http.StatusUnauthorized,
	fault.PermissionDenied:   http.StatusForbidden,
	fault.Exhausted:          http.StatusTooManyRequests,
	fault.Unavailable:        http.StatusServiceUnavailable,
	fault.DeadlineExceeded:   http.StatusGatewayTimeout,
	fault.Canceled:           statusClientClosed,
	fault.Unprocessable:      http.StatusUnprocessableEntity,
	fault.PreconditionFailed: http.StatusPreconditionFailed,
	fault.Gone:               http.StatusGone,
}

// Status returns the HTTP status of an error, and the message for the client.
// It knows faults and Echo's own errors (no route, wrong method).
func Status(err error) (status int, message string) {
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		if text, ok := he.Message.(string); ok {
			return he.Code, text
		}
		return he.Code, http.StatusText(he.Code)
	}
	f := fault.Of(err)
	if f.Code == CodeSlowBody {
		return http.StatusRequestTimeout, f.Text()
	}
	if int(f.Kind) < len(statuses) {
		return statuses[f.Kind], f.Text()
	}
	return http.StatusInternalServerError, f.Text()
}

// SetRetryAfter tells the client when to try again, in whole seconds, for
// errors that say so and for those that are retryable.
func SetRetryAfter(h http.Header, err error) {
	f := fault.Of(err)
	if f.RetryAfter <= 0 && f.Kind != fault.Unavailable && f.Kind != fault.Exhausted {
		return
	}
	seconds := max(1, int64(math.Ceil(f.RetryAfter.Seconds())))
	h.Set("Retry-After", strconv.FormatInt(min(seconds, int64(time.Hour/time.Second)), 10))
}

// HandleError writes err as {"error": message}, which clients of the Open
// Inference Protocol understand.
func HandleError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	status, message := Status(err)
	SetRetryAfter(c.Response().Header(), err)
	if c.Request().Method == http.MethodHead {
		_ = c.NoContent(status) // fails only where the client is gone
		return
	}
	_ = c.JSON(status, map[string]string{"error": message})
}
