package web

import (
	"context"

	"sluice/internal/platform/fault"
)

type exchangeKey struct{}

// Blame records the error behind an answer that the handler writes itself, so
// that the request's log line shows the cause. The first one counts.
func Blame(ctx context.Context, err error) {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok && x.blamed == nil {
		x.blamed = err
	}
}

// cause is what the request's log line shows.
func (x *exchange) cause() error {
	if x.failed != nil {
		return x.failed
	}
	return x.blamed
}

// isDefect reports whether an answer's status and cause call for a look.
func isDefect(status int, cause error) bool {
	return cause != nil && status >= 500 && fault.Is(cause, fault.Internal)
}
