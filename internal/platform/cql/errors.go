package cql

import (
	"context"
	"errors"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/fault"
)

// unreached are the errors of a statement that was never sent.
var unreached = []error{gocql.ErrNoConnections, gocql.ErrNoConnectionsInPool, gocql.ErrNoPool, gocql.ErrHostDown,
	gocql.ErrNoConnectionsStarted, gocql.ErrNoStreams, gocql.ErrSessionClosed, gocql.ErrSessionNotReady, gocql.ErrNoHosts}

// Refusal is an error that a server answered with. (gocql.RequestError has names
// for its methods that the scylladb fork's errors do not.)
type Refusal interface {
	error
	GetCode() int
}

// NotDone says whether err means that the statement had no effect and will have
// none. Of all others nobody knows.
func NotDone(err error) bool {
	for _, e := range unreached {
		if errors.Is(err, e) {
			return true
		}
	}
	if refused, ok := errors.AsType[Refusal](err); ok {
		switch refused.GetCode() {
		case gocql.ErrCodeUnavailable, gocql.ErrCodeBootstrapping, gocql.ErrCodeSyntax, gocql.ErrCodeInvalid,
			gocql.ErrCodeUnauthorized, gocql.ErrCodeConfig, gocql.ErrCodeCredentials, gocql.ErrCodeProtocol:
			return true
		}
	}
	return false
}

// Translate classifies an error of gocql; those that are classified already, and
// the end of ctx, it returns as they are. The cause stays for logs: it names hosts and statements,
// never values.
func Translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// gocql ends what a lost connection was asked with Canceled, too.
	over := ctx.Err() != nil && errors.Is(err, ctx.Err())
	if _, ok := errors.AsType[*fault.Error](err); ok || over {
		return err
	}
	if _, ok := errors.AsType[*gocql.RequestErrRateLimitReached](err); ok {
		return fault.Wrap(fault.Exhausted, err, "this is changed or read too often: try again later").WithCode("store_rate_limited").WithRetryAfter(time.Second)
	}
	if refused, ok := errors.AsType[Refusal](err); ok {
		return translateRefusal(refused.GetCode(), err)
	}
	if errors.Is(err, gocql.ErrFrameTooBig) || errors.Is(err, gocql.ErrTooManyStmts) {
		return fault.Wrap(fault.TooLarge, err, "it is too large for the store").WithCode("store_too_large")
	}
	if errors.Is(err, gocql.ErrSessionClosed) {
		return fault.Wrap(fault.Unavailable, err, "the store is closed").WithCode("store_closed")
	}
	// What gocql does not classify are the network's errors: connections that end,
	// cannot be made, or do not answer in time.
	return unavailable(err, time.Second)
}

func translateRefusal(code int, err error) error {
	switch code {
	case gocql.ErrCodeOverloaded:
		return unavailable(err, 2*time.Second)
	case gocql.ErrCodeUnavailable, gocql.ErrCodeBootstrapping, gocql.ErrCodeReadTimeout, gocql.ErrCodeWriteTimeout,
		gocql.ErrCodeReadFailure, gocql.ErrCodeWriteFailure, gocql.ErrCodeCASWriteUnknown, gocql.ErrCodeTruncate, gocql.ErrCodeCDCWriteFailure:
		return unavailable(err, time.Second)
	case gocql.ErrCodeCredentials, gocql.ErrCodeUnauthorized:
		return fault.Wrap(fault.Internal, err, "the store refuses this server's credentials: check its address and grants").WithCode("store_unauthorized")
	default:
		return fault.Wrap(fault.Internal, err, "the store failed")
	}
}

func unavailable(err error, after time.Duration) error {
	return fault.Wrap(fault.Unavailable, err, "the store cannot be reached, or has too much to do: try again").WithCode("store_unavailable").WithRetryAfter(after)
}

// Misconfigured is an error of who runs the cluster, fault.Internal.
func Misconfigured(format string, args ...any) error {
	return fault.New(fault.Internal, format, args...).WithCode("store_misconfigured")
}
