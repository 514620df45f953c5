// Package fault gives every failure a kind, a stable code, and a message that
// says how to fix it.
//
// The kind is decided once, where the cause is known, and mapped once at each
// edge: the Open Inference Protocol, problem+json, gRPC status, queue
// acknowledgement. Code between the two only wraps and returns.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind classifies a failure by what the caller can do about it.
type Kind uint8

// The kinds. Internal is the zero value so that an unclassified error is
// never mistaken for the caller's fault.
const (
	Internal           Kind = iota // a defect or a broken dependency; not the caller's fault
	Invalid                        // the request is wrong and will stay wrong
	NotFound                       // no such thing, or not this caller's
	Conflict                       // the state of the thing forbids it now
	Unsupported                    // well formed, but not offered here
	TooLarge                       // over a configured size limit
	Unauthenticated                // no valid credential
	PermissionDenied               // a valid credential without the right
	Exhausted                      // this caller is over its quota; retry later
	Unavailable                    // the server cannot take it now; retry later
	DeadlineExceeded               // time ran out
	Canceled                       // the caller went away
	Unprocessable                  // well formed, but breaks a rule; Details say which
	PreconditionFailed             // the thing is not in the state that the request is conditional on
	Gone                           // it existed, and will not come back
)

var kindNames = [...]string{
	"internal", "invalid", "not_found", "conflict", "unsupported", "too_large", "unauthenticated",
	"permission_denied", "exhausted", "unavailable", "deadline_exceeded", "canceled",
	"unprocessable", "precondition_failed", "gone",
}

// String returns the kind's stable snake_case name, as used in logs and metrics.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// KindOf returns the kind of a name that String returned.
func KindOf(name string) (Kind, bool) {
	i := slices.Index(kindNames[:], name)
	return Kind(max(i, 0)), i >= 0
}

// Retryable reports whether the same request may succeed later unchanged.
func (k Kind) Retryable() bool {
	return k == Unavailable || k == Exhausted || k == DeadlineExceeded
}

// Error is a classified failure. Message is shown to the caller: it names what
// is wrong, what was expected, and never holds secrets.
type Error struct {
	Kind    Kind
	Code    string // stable and specific, e.g. "queue_full"; the kind's name if empty
	Message string
	// RetryAfter is how long to wait before trying again; 0 means unknown.
	RetryAfter time.Duration
	// Details say what exactly is wrong where there is more than one thing.
	Details []Detail
	// Cause is for logs only; it is never shown to the caller.
	Cause error
}

// Detail is one of the things that are wrong with a request.
type Detail struct {
	Pointer string // RFC 6901 JSON pointer into the body, or the parameter's name
	Line    int    // of the input, from 1; 0 where it has no lines
	Code    string // stable and specific
	Message string // for the caller
}

// New returns an error of the kind with a formatted message for the caller.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause that is kept for logs and errors.Is.
func Wrap(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// WithCode returns e with its code set; call it only while building the error.
func (e *Error) WithCode(code string) *Error { e.Code = code; return e }

// WithRetryAfter returns e with its retry hint set; call it only while building the error.
func (e *Error) WithRetryAfter(d time.Duration) *Error { e.RetryAfter = d; return e }

// WithDetails returns e with its details set; call it only while building the error.
func (e *Error) WithDetails(details ...Detail) *Error { e.Details = details; return e }

// Error returns the message, and the cause for the log's reader.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Of returns err as a classified error: the *Error in its chain, a kind for
// the context errors, and otherwise Internal with a message that hides the
// cause. It returns nil for nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Wrap(Canceled, err, "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(DeadlineExceeded, err, "Request timeout expired")
	}
	return Wrap(Internal, err, "internal error")
}

// Is reports whether err's kind is kind.
func Is(err error, kind Kind) bool { return err != nil && Of(err).Kind == kind }

// CodeOf returns the stable code of err: its own, else its kind's name; nothing
// for nil.
func CodeOf(err error) string {
	e := Of(err)
	if e == nil {
		return ""
	}
	if e.Code != "" {
		return e.Code
	}
	return e.Kind.String()
}

// MaxText is how many bytes of a message a client is told: gRPC sends it in a
// header, and clients refuse large ones.
const MaxText = 4 << 10

// Text returns the message for the client, which may hold what the client sent:
// cut to MaxText, and valid UTF-8.
func (e *Error) Text() string { return Clip(e.Message, MaxText) }

// Clip cuts a text to at most n bytes (3 or more), an ellipsis included, between runes, and
// replaces what is not UTF-8.
func Clip(text string, n int) string {
	const ellipsis = "…"
	if len(text) > n {
		end := max(n-len(ellipsis), 0)
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + ellipsis
	}
	return strings.ToValidUTF8(text, "?")
}
