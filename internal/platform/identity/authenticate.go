// Package identity says who sends a request: it takes the credentials out of
// it that an edge found, and returns a principal or a refusal.
//
// The kinds of credentials live in packages of their own: apikey, jwt, mtls,
// password. This package decides between them, looks API keys up, and makes the
// first key of a new installation.
//
// Known limits: a request carries one credential, never two whose rights would
// add up; a revoked key may count for as long as Keys caches it, 2 s by default,
// on nodes that were not told.
package identity

import (
	"context"
	"crypto/x509"
	"strings"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
)

// Credentials are what a request shows. An edge fills in all that is there and
// judges nothing.
type Credentials struct {
	Authorization []string // every value of the Authorization header
	APIKey        []string // every value of the X-API-Key header
	// Peer is VerifiedChains of the connection's tls.ConnectionState, never its
	// PeerCertificates.
	Peer [][]*x509.Certificate
}

// Verifier returns the bearer of a text: *Keys does for API keys, *jwt.Verifier
// for tokens.
type Verifier interface {
	Verify(ctx context.Context, text string) (*access.Principal, error)
}

// PeerMapper returns the principal of a verified client certificate:
// *mtls.Mapper does.
type PeerMapper interface {
	Map(chains [][]*x509.Certificate) (*access.Principal, error)
}

// Config says which credentials are accepted; nil means that a kind is not.
type Config struct {
	Keys, Tokens Verifier
	Peers        PeerMapper
	// Tenant refuses tenants that are suspended or not there, which issuers of
	// tokens and certificates need not know; nil refuses none. The lookup of Keys
	// has its own ways.
	Tenant func(ctx context.Context, id string) error
}

// Authenticator is what the edges ask. It is safe for concurrent use.
type Authenticator struct {
	Config
	anonymous *access.Principal
}

// New returns an authenticator that wants a credential with every request.
// fault.Invalid: it would accept none, and nobody could come in. To let
// everybody in takes Anonymous, so that no forgotten setting does it.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Keys == nil && cfg.Tokens == nil && cfg.Peers == nil {
		return nil, fault.New(fault.Invalid, "authentication is on but accepts no kind of credential: configure API keys, token issuers or client certificates")
	}
	return &Authenticator{Config: cfg}, nil
}

// Anonymous returns an authenticator that asks for nothing and lets everybody
// do everything in the default tenant. Who uses it listens on loopback only.
func Anonymous(everything access.Set) *Authenticator {
	return &Authenticator{anonymous: access.Anonymous(everything)}
}

// Required reports whether requests need a credential.
func (a *Authenticator) Required() bool { return a.anonymous == nil }

// Authenticate returns who sent the request with these credentials.
//
// fault.Unauthenticated: there is no credential ("credential_missing"), it is of
// a kind that is not accepted ("credential_unsupported"), or it was refused, with
// the code of its kind. fault.Invalid: there are several
// ("credential_ambiguous"). fault.Unavailable: it cannot be verified now.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (*access.Principal, error) {
	if a.anonymous != nil {
		return a.anonymous, nil
	}
	// Certificates come with every connection of a mesh: where no rule asks for
	// them they are part of the transport, not a credential.
	byPeer := a.Peers != nil && len(c.Peer) > 0
	shown := len(c.Authorization) + len(c.APIKey)
	if byPeer {
		shown++
	}
	switch {
	case shown == 0:
		return nil, access.ErrNoCredential
	case shown > 1:
		return nil, errAmbiguous
	case byPeer:
		p, err := a.Peers.Map(c.Peer)
		return a.admit(ctx, p, err)
	case len(c.APIKey) == 1:
		return verify(ctx, a.Keys, c.APIKey[0])
	}
	text, ok := bearer(c.Authorization[0])
	if !ok {
		return nil, errUnsupported
	}
	if apikey.Looks(text) {
		return verify(ctx, a.Keys, text)
	}
	p, err := verify(ctx, a.Tokens, text)
	return a.admit(ctx, p, err)
}

// admit refuses a principal that was verified but whose tenant is not let in.
func (a *Authenticator) admit(ctx context.Context, p *access.Principal, err error) (*access.Principal, error) {
	if err == nil && a.Tenant != nil {
		err = a.Tenant(ctx, p.Tenant)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func verify(ctx context.Context, v Verifier, text string) (*access.Principal, error) {
	if v == nil {
		return nil, errUnsupported
	}
	return v.Verify(ctx, text)
}

// bearer takes "Bearer <text>" apart (RFC 6750 section 2.1); the scheme's case
// does not matter (RFC 9110 section 11.1).
func bearer(header string) (string, bool) {
	const scheme = "Bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	return header[len(scheme):], true
}

var (
	errAmbiguous error = fault.New(fault.Invalid, "the request has several credentials: send one, either in Authorization, or in X-API-Key, or as a client certificate").
			WithCode("credential_ambiguous")
	errUnsupported error = fault.New(fault.Unauthenticated, "this kind of credential is not accepted here: expected Authorization: Bearer with an API key or a token, as this server is configured").
			WithCode("credential_unsupported")
)

// Challenge returns the value of the WWW-Authenticate header for an answer with
// this error (RFC 6750 section 3), or "" where none belongs there.
func Challenge(err error) string {
	const realm = `Bearer realm="sluice"`
	switch {
	case err == nil:
		return ""
	case fault.CodeOf(err) == fault.CodeOf(access.ErrNoCredential):
		return realm // without an error: the client may not have known
	case fault.Is(err, fault.Unauthenticated):
		return realm + `, error="invalid_token"`
	case fault.Is(err, fault.PermissionDenied):
		return realm + `, error="insufficient_scope"`
	case fault.CodeOf(err) == fault.CodeOf(errAmbiguous):
		return realm + `, error="invalid_request"`
	}
	return ""
}
