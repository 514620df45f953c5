package problem

import (
	"cmp"
	"maps"
	"regexp"
	"slices"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

// Type is one kind of problem, as the documentation describes it.
type Type struct {
	Code  string `json:"code"`  // stable, in snake_case
	Title string `json:"title"` // what it is, without a full stop
	Fix   string `json:"fix"`   // what the client can do about it
}

// Catalog has every type of problem that an API answers with.
type Catalog struct {
	base  string
	types map[string]Type
}

var codeForm = regexp.MustCompile(`^[a-z][a-z0-9_]{1,63}$`)

// NewCatalog returns a catalog of the types in Standard, in Platform and of those
// given. Base comes before /problems/{code} in the types' addresses; it may be
// empty.
func NewCatalog(base string, types ...Type) (*Catalog, error) {
	c := &Catalog{base: base, types: map[string]Type{}}
	for _, t := range slices.Concat(Standard(), Platform(), types) {
		if _, ok := c.types[t.Code]; ok {
			return nil, fault.New(fault.Invalid, "problem %q is described twice: give one of them another code", t.Code)
		}
		if !codeForm.MatchString(t.Code) || t.Title == "" || t.Fix == "" {
			return nil, fault.New(fault.Invalid, "problem %q: expected a code in snake_case, a title, and how to fix it", t.Code)
		}
		c.types[t.Code] = t
	}
	return c, nil
}

// All returns the types, ordered by code.
func (c *Catalog) All() []Type {
	return slices.SortedFunc(maps.Values(c.types), func(a, b Type) int { return cmp.Compare(a.Code, b.Code) })
}

// Lookup returns the type with the code.
func (c *Catalog) Lookup(code string) (Type, bool) {
	t, ok := c.types[code]
	return t, ok
}

// lookup is Lookup with the type of the error's kind for codes that nobody
// described.
func (c *Catalog) lookup(code string, kind fault.Kind) Type {
	if t, ok := c.types[code]; ok {
		return t
	}
	return c.types[kind.String()]
}

// Codes of the edge's own problems, beside those of package web.
const (
	CodeRouteNotFound         = "route_not_found"
	CodeMalformedBody         = "malformed_body"
	CodeIdempotencyKeyMissing = "idempotency_key_missing"
	CodeIdempotencyKeyInvalid = "idempotency_key_invalid"
	CodeIdempotencyInFlight   = "idempotency_in_flight"
	CodeIdempotencyKeyReused  = "idempotency_key_reused"
	CodeAnswerNotKept         = "answer_not_kept"
	CodeValidationFailed      = "validation_failed"
	CodeETagInvalid           = "etag_invalid"
)

// Standard returns the types that every API has: one for each kind of fault, and
// those that the edge finds itself.
func Standard() []Type {
	return []Type{
		{fault.Internal.String(), "The server failed", "This is not your fault. Try again; if it persists, report it with the request_id."},
		{fault.Invalid.String(), "The request is wrong", "Correct what detail and errors name. The same request will fail again."},
		{fault.NotFound.String(), "There is no such thing", "Check the id. What belongs to another tenant is not shown either."},
		{fault.Conflict.String(), "The current state forbids it", "Read the thing again, and decide with its current state."},
		{fault.Unsupported.String(), "This is not offered here", "Use what the documentation offers instead."},
		{fault.TooLarge.String(), "A size limit is exceeded", "Send less at once, or raise the limit that detail names."},
		{fault.Unauthenticated.String(), "A valid credential is required", "Send a key or a token as Authorization: Bearer …, and check that it has not expired or been revoked."},
		{fault.PermissionDenied.String(), "The credential does not allow it", "Ask an administrator of the tenant for the permission that detail names."},
		{fault.Exhausted.String(), "A quota is used up", "Wait as long as Retry-After says. RateLimit tells how much is left."},
		{fault.Unavailable.String(), "The server cannot take it now", "Send the same request again after as long as Retry-After says, with growing pauses."},
		{fault.DeadlineExceeded.String(), "Time ran out", "Try again; if it persists, ask for less at once."},
		{fault.Unprocessable.String(), "The request breaks a rule", "Correct each place that errors names."},
		{fault.PreconditionFailed.String(), "The thing has changed", "Read it again, and send If-Match with its current ETag."},
		{fault.Gone.String(), "It is gone", "It existed, and will not come back: forget the id."},
		{fault.Canceled.String(), "The request was cancelled", "Nothing: the client went away first."},

		{CodeRouteNotFound, "There is no such route", "Compare the path with the OpenAPI document."},
		{web.CodeMethodNotAllowed, "The route has no such method", "Use one of the methods in the Allow header."},
		{web.CodeNotAcceptable, "No acceptable media type is offered", "Ask for application/json in Accept, or leave Accept out."},
		{web.CodeUnsupportedMediaType, "The body's media type or coding is not supported", "Send application/json, uncompressed or in a coding that Accept-Encoding names."},
		{CodeMalformedBody, "The body cannot be read", "Send one well-formed JSON value. errors names the line."},
		{CodeValidationFailed, "The request does not fit its schema", "Correct each place that errors names; the schema is in the OpenAPI document."},
		{"body_too_large", "The body is too large", "Send less at once, or raise the limit that detail names."},
		{web.CodeSlowBody, "The body came too slowly", "Send the body within the time that detail names."},
		{"malformed_encoding", "The body's compression is damaged", "Send the body whole and unchanged, or without a Content-Encoding."},
		{"too_many_requests_in_flight", "The server is at its limit of concurrent requests", "Send the same request again after as long as Retry-After says."},
		{"panic", "The server failed", "This is a defect. Report it with the request_id."},
		{"credential_missing", "A credential is required", "Send a key or a token as Authorization: Bearer …"},
		{"credential_ambiguous", "The request has several credentials", "Send exactly one Authorization or X-Api-Key header."},
		{"permission_missing", "The credential does not allow it", "Ask an administrator of the tenant for the permission that detail names."},
		{"rate_limited", "A quota is used up", "Wait as long as Retry-After says. RateLimit tells how much is left, RateLimit-Policy what the quotas are."},

		{web.CodePreconditionRequired, "If-Match is required", "Send If-Match with the ETag that you have read, so that no change of somebody else is lost; * accepts any."},
		{CodeETagInvalid, "A list of entity tags is malformed", "Send tags in quotation marks, such as \"7\", between commas."},
		{CodeIdempotencyKeyMissing, "An Idempotency-Key is required", "Send an Idempotency-Key: a new random value for each operation, the same one when you send it again."},
		{CodeIdempotencyKeyInvalid, "The Idempotency-Key is malformed", "Send 1 to 255 visible ASCII characters, in quotation marks or not."},
		{CodeIdempotencyInFlight, "The same operation is being done", "Wait as long as Retry-After says and send the same request again: you will get its answer."},
		{CodeIdempotencyKeyReused, "The Idempotency-Key belongs to another request", "Use a new key for another operation; send the same one only with the very same request."},
		{CodeAnswerNotKept, "The operation was done before; its answer held a secret and was not kept", "Find what was made by listing it. If the secret is lost, revoke it and make another with a new key."},
	}
}
