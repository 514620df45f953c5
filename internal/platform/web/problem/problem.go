// Package problem describes failures to clients of the native API as RFC 9457
// problem details, and knows every kind of them: what its code means and how to
// fix it.
//
// A problem is made from an error and shows of it what package fault shows: the
// message, never the cause. Known limit: texts are in English only.
package problem

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// MediaType is the media type of problems (RFC 9457, 3).
const MediaType = "application/problem+json"

// Problem is a problem details object (RFC 9457, 3.1) with this API's extension
// members.
type Problem struct { //nolint:errname // RFC 9457 calls it so
	Type      string      `json:"type" format:"uri-reference" doc:"Where this kind of problem is described." example:"/problems/validation_failed"`
	Title     string      `json:"title" doc:"What kind of problem this is; the same for every occurrence."`
	Status    int         `json:"status" doc:"The HTTP status." minimum:"400" maximum:"599"`
	Detail    string      `json:"detail" doc:"What went wrong this time, what was expected, and how to fix it."`
	Instance  string      `json:"instance,omitempty" format:"uri-reference" doc:"The path that was asked for."`
	Code      string      `json:"code" doc:"A stable name of the problem, for programs." example:"validation_failed"`
	Errors    []Violation `json:"errors,omitempty" doc:"Each thing that is wrong, where there may be several."`
	RequestID string      `json:"request_id,omitempty" doc:"The request's id, to quote when asking for help."`
	Retryable bool        `json:"retryable" doc:"Whether the same request may succeed later, unchanged."`

	headers http.Header
	cause   error
}

// Violation is one of the things that are wrong with a request.
type Violation struct {
	Pointer   string `json:"pointer,omitempty" doc:"A JSON pointer (RFC 6901) to the place in the body, as a URI fragment." example:"#/items/3/name"`
	Parameter string `json:"parameter,omitempty" doc:"The parameter, with where it is." example:"query.limit"`
	Line      int    `json:"line,omitempty" doc:"The line in the body, counted from 1." minimum:"1"`
	Code      string `json:"code" doc:"A stable name of what is wrong." example:"unknown_field"`
	Detail    string `json:"detail" doc:"What is wrong, and what was expected."`
}

// Error returns the detail and, for the log, the cause.
func (p *Problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Detail
}

// Unwrap returns the error that the problem was made from.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns the headers that go with the problem, such as Retry-After.
func (p *Problem) GetHeaders() http.Header { return p.headers }

// ContentType returns the media type of the problem in a format.
func (p *Problem) ContentType(format string) string {
	if format == "application/json" {
		return MediaType
	}
	return format
}

// violations are an error's details, as clients are shown them: a JSON pointer
// begins with a slash, and all else names a parameter.
func violations(details []fault.Detail) []Violation {
	var out []Violation
	for _, d := range details {
		v := Violation{Line: d.Line, Code: d.Code, Detail: fault.Clip(d.Message, maxDetail)}
		switch {
		case strings.HasPrefix(d.Pointer, "/"):
			v.Pointer = Fragment(d.Pointer)
		case d.Pointer != "":
			v.Parameter = fault.Clip(d.Pointer, maxDetail)
		}
		out = append(out, v)
	}
	return out
}

// maxDetail is the most bytes of a detail: it may hold what the client sent.
const maxDetail = 500

// Fragment is a JSON pointer as a URI fragment (RFC 6901, 6).
func Fragment(pointer string) string {
	var b strings.Builder
	b.WriteByte('#')
	for _, c := range []byte(pointer) {
		if c > ' ' && c < 0x7f && !strings.ContainsRune(`"#%<>[\]^{|}`+"`", rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Of returns the problem that an error is to the client. Instance is the path of
// the request, and may be empty as the request's id may.
func (c *Catalog) Of(err error, instance, requestID string) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	f := fault.Of(err)
	status, message := web.Status(err)
	kind, code := f.Kind, fault.CodeOf(err)
	if _, classified := errors.AsType[*fault.Error](err); !classified && f.Kind == fault.Internal { // not classified: one of the router's, or a defect
		kind, code = unclassified(status)
	}
	t := c.lookup(code, kind)
	p := &Problem{
		Type: c.base + "/problems/" + t.Code, Title: t.Title, Status: status, Detail: message,
		Instance: instance, Code: code, RequestID: requestID, Retryable: kind.Retryable(), cause: err,
	}
	p.Errors = violations(f.Details)
	p.headers = http.Header{}
	web.SetRetryAfter(p.headers, err)
	return p
}

// unclassified returns kind and code for an error that only has a status.
func unclassified(status int) (fault.Kind, string) {
	switch status {
	case http.StatusNotFound:
		return fault.NotFound, CodeRouteNotFound
	case http.StatusMethodNotAllowed:
		return fault.Invalid, web.CodeMethodNotAllowed
	case http.StatusServiceUnavailable:
		return fault.Unavailable, fault.Unavailable.String()
	}
	if status < http.StatusInternalServerError {
		return fault.Invalid, fault.Invalid.String()
	}
	return fault.Internal, fault.Internal.String()
}
