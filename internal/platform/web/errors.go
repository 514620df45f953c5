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

// Codes of failures that HTTP has a status of its own for.
const (
	CodeSlowBody             = "slow_body" // 408: the one deadline that is the client's
	CodeMethodNotAllowed     = "method_not_allowed"
	CodeNotAcceptable        = "not_acceptable"
	CodePreconditionRequired = "precondition_required"
	CodeRange                = "range_not_satisfiable"
	CodeUnsupportedMediaType = "unsupported_media_type"
)

// StatusClientClosed is the status that logs and metrics show where the client
// went away before its answer; nobody receives it.
const StatusClientClosed = 499

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
	fault.Canceled:           StatusClientClosed,
	fault.Unprocessable:      http.StatusUnprocessableEntity,
	fault.PreconditionFailed: http.StatusPreconditionFailed,
	fault.Gone:               http.StatusGone,
}

// statusByCode has the failures for which HTTP has a more exact status than for
// their kind.
var statusByCode = map[string]int{
	CodeSlowBody:             http.StatusRequestTimeout,
	CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	CodeNotAcceptable:        http.StatusNotAcceptable,
	CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	CodePreconditionRequired: http.StatusPreconditionRequired,
	CodeRange:                http.StatusRequestedRangeNotSatisfiable,
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
	if status, ok := statusByCode[f.Code]; ok {
		return status, f.Text()
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
