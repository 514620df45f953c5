package access

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"sluice/internal/platform/fault"
)

// Kind is the sort of actor that a principal is.
type Kind string

// The kinds of actors.
const (
	KindAnonymous Kind = "anonymous" // nobody was asked: authentication is off
	KindAPIKey    Kind = "api_key"
	KindUser      Kind = "user"    // a person, by a token or a password
	KindService   Kind = "service" // a program, by a token or a certificate
)

// Method is how a principal proved who it is.
type Method string

// The methods of authentication.
const (
	MethodNone     Method = "none"
	MethodAPIKey   Method = "api_key"
	MethodToken    Method = "jwt"
	MethodPeer     Method = "mtls"
	MethodPassword Method = "password"
)

// DefaultTenant is the tenant of all work while authentication is off.
const DefaultTenant = "default"

// Principal is who acts. It is shared between requests of the same credential:
// nobody changes it once it is made.
type Principal struct {
	Tenant string // the one tenant that it acts in; never taken from the request
	// Subject is a pseudonymous id, such as key_… or usr_…, fit for logs and the
	// audit trail: it holds no name and no address.
	Subject     string
	Kind        Kind
	Method      Method
	Roles       []string // as the credential names them; Permissions is what counts
	Permissions Set
	Expires     time.Time // when the credential ends; zero for never
	// Credential is the id of the API key or the session that was shown; empty
	// where it is not of this program's own making.
	Credential string
	// Person is who is behind the subject where that is somebody else: the user who
	// made an API key, or the first of keys that were each made by the one before.
	Person string
	// Recheck asks again whether the credential is good, for what outlives the
	// request that showed it: it may have been revoked, or may do less (ErrNarrowed).
	// Nil where it ends by itself.
	Recheck func(context.Context) error
}

// Anonymous returns the principal of a program without authentication: it may
// do everything in the default tenant.
func Anonymous(everything Set) *Principal {
	return &Principal{
		Tenant: DefaultTenant, Subject: "anonymous", Kind: KindAnonymous, Method: MethodNone, Permissions: everything,
	}
}

// Behind returns the person behind the subject, which is the subject itself where
// nobody else is known to be. Two principals with the same one are no four eyes.
func (p *Principal) Behind() string {
	if p.Person != "" {
		return p.Person
	}
	return p.Subject
}

// Can reports whether the principal holds the permission; nobody (nil) holds
// none.
func (p *Principal) Can(permission Permission) bool {
	return p != nil && p.Permissions.Has(permission)
}

// Expired reports whether the credential has ended. A request was checked when
// it came in; a stream that outlives its credential asks again.
func (p *Principal) Expired(now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}

// Errors of a stream whose credential was good when it was opened.
var (
	errExpired error = fault.New(fault.Unauthenticated, "the credential that opened the stream has expired: open another with a new one").
			WithCode("credential_expired")
	errRevoked = fault.New(fault.Unauthenticated, "the credential that opened the stream is not valid any more: open another with a new one").
			WithCode("credential_invalid")
	// ErrNarrowed is what Recheck returns for a credential that may not do all any
	// more that it could.
	ErrNarrowed error = fault.New(fault.PermissionDenied, "the credential that opened the stream may do less than it could then: open another, which shows what is left").
			WithCode("credential_narrowed")
)

// Holds returns fault.Unauthenticated once the credential has ended or was revoked,
// and ErrNarrowed once it may do less.
// Where it cannot be told now, such as while the store is away, it holds. It is cheap
// enough to call for every message of a stream.
func (p *Principal) Holds(ctx context.Context, now time.Time) error {
	switch {
	case p == nil:
		return nil
	case p.Expired(now):
		return errExpired
	case p.Recheck == nil:
		return nil
	}
	switch err := p.Recheck(ctx); {
	case errors.Is(err, ErrNarrowed):
		return ErrNarrowed
	case fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.PermissionDenied):
		return errRevoked
	}
	return nil
}

// LogValue says who acts, without the list of everything it may do.
func (p *Principal) LogValue() slog.Value {
	if p == nil {
		return slog.StringValue("nobody")
	}
	return slog.GroupValue(
		slog.String("tenant", p.Tenant), slog.String("subject", p.Subject),
		slog.String("kind", string(p.Kind)), slog.String("method", string(p.Method)),
	)
}

var tenantForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// CheckTenant returns fault.Invalid unless the text can be the id of a tenant: 1
// to 64 lower case letters, digits, _ and -, the first a letter or digit. Ids
// are parts of keys, paths and subjects of messages, so nothing else may be one.
func CheckTenant(id string) error {
	if !tenantForm.MatchString(id) {
		return invalid("tenant_malformed", "tenant id %.80q is malformed: expected 1 to 64 lower case letters, digits, _ and -, the first a letter or digit", id)
	}
	return nil
}

type contextKey struct{}

// With returns a context that carries the principal.
func With(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// Slot is the place of a principal in a context that is made for each request anyway: it
// spares the one that With makes. Its zero value is empty.
type Slot struct{ principal *Principal }

// Value returns the principal for the key that From looks for; false for other keys, and
// while the slot is empty.
func (s *Slot) Value(key any) (any, bool) {
	if _, ok := key.(contextKey); ok && s.principal != nil {
		return s.principal, true
	}
	return nil, false
}

// Slotted is a context with a slot.
type Slotted interface {
	context.Context
	Slot() *Slot
}

// Enter is With for whoever has just found out who sends a request: a context with an
// empty slot is returned as it is, and carries the principal from here on.
func Enter(ctx context.Context, p *Principal) context.Context {
	if c, ok := ctx.(Slotted); ok {
		if s := c.Slot(); s.principal == nil {
			s.principal = p
			return ctx
		}
	}
	return With(ctx, p)
}

// From returns the principal that acts; false where nobody was authenticated.
// It does not allocate.
func From(ctx context.Context) (*Principal, bool) {
	p, _ := ctx.Value(contextKey{}).(*Principal)
	return p, p != nil
}

// ErrNoCredential is the refusal of a request without any credential.
var ErrNoCredential error = fault.New(fault.Unauthenticated, "this needs a credential: send an API key or a bearer token in the Authorization header").
	WithCode("credential_missing")

// Check returns nil if the context's principal holds the permission,
// fault.Unauthenticated if there is none, and else fault.PermissionDenied. The
// message names the permission and nothing of what was asked for: that may be
// another tenant's.
func Check(ctx context.Context, permission Permission) error {
	p, ok := From(ctx)
	switch {
	case !ok:
		return ErrNoCredential
	case !p.Can(permission):
		return fault.New(fault.PermissionDenied, "this needs the permission %s: ask an administrator of your tenant for a role that grants it, and see that the scopes of your credential include it", permission).
			WithCode("permission_missing")
	}
	return nil
}
