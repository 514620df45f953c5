// Package jwt verifies bearer tokens (RFC 7519, RFC 9068, RFC 8725) of issuers
// that the operator trusts, and says who their bearers are.
//
// A token only ever selects: its issuer from the configured ones, its algorithm
// from that issuer's list, its key from that issuer's set by exact id. Keys and
// addresses within a token (jwk, jku, x5u, x5c) are ignored, critical headers
// are refused, symmetric algorithms and "none" cannot be configured.
//
// Known limits: tokens are not revoked one by one (a removed key or the token's
// end does that); encrypted tokens are not read; nothing is fetched to discover
// an issuer, its key set's address is configured.
package jwt

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// The reasons why a token is refused, as codes of fault.Unauthenticated.
const (
	codeTooLong   = "token_too_long"
	codeMalformed = "token_malformed"
	codeAlgorithm = "token_algorithm"
	codeCritical  = "token_critical_header"
	codeType      = "token_type"
	codeIssuer    = "token_issuer"
	codeKey       = "token_key_unknown"
	codeSignature = "token_signature"
	codeAudience  = "token_audience"
	codeExpired   = "token_expired"
	codeTooEarly  = "token_not_yet_valid"
	codeClaims    = "token_claims"
	codeTenant    = "token_tenant"

	codeKeysUnavailable = "token_keys_unavailable" // fault.Unavailable
)

// Issuer is one that is trusted.
type Issuer struct {
	Name     string // the exact claim iss
	Audience string // what the claim aud has to contain: this service
	Keys     Source
	// Algorithms that it signs with, of RS256, PS256, ES256 and EdDSA; empty for
	// all four.
	Algorithms []string
	// Types that the header typ may have, in lower case and without
	// "application/"; empty for "jwt" and "at+jwt". A type "" allows tokens
	// without one.
	Types []string
	// Leeway is how far clocks may differ, at most 60s; 0 means 30s.
	Leeway time.Duration
	// Tenant is the tenant of all its tokens; where it is empty, the claim says it.
	Tenant string
	// Platform is whether its tokens may carry permissions that concern more than
	// one tenant. It is off for an identity provider of a customer.
	Platform bool
	Claims   Claims
}

// Claims names the claims that say who somebody is. Empty names mean the
// default; a dot leads into an object: "realm_access.roles".
type Claims struct {
	Tenant string // "tenant"
	Roles  string // "roles": a list, or a text with spaces
	// Scope is "scope" by default. Where a token has it, it may do only what the
	// scope names, besides being granted by its roles; "-" ignores scopes.
	Scope string
}

// Config holds what concerns all issuers. Zero values mean the default.
type Config struct {
	MaxBytes int // of a token; 0 means 8 KiB
	// Pseudonym keys the hash that makes a subject's id from iss and sub. Without
	// it the id of a guessed subject can be computed by anybody.
	Pseudonym secret.Text
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	Config
	issuers    map[string]*Issuer
	algorithms []jose.SignatureAlgorithm // of any issuer
	roles      *access.Roles
	now        func() time.Time
}

// New returns a verifier of the tokens of the issuers. fault.Invalid: an issuer
// is incomplete, named twice, or asks for what is unsafe.
func New(roles *access.Roles, now func() time.Time, cfg Config, issuers ...Issuer) (*Verifier, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 8 << 10
	}
	v := &Verifier{Config: cfg, issuers: make(map[string]*Issuer, len(issuers)), roles: roles, now: now}
	for _, i := range issuers {
		if err := i.complete(); err != nil {
			return nil, err
		}
		if v.issuers[i.Name] != nil {
			return nil, fault.New(fault.Invalid, "issuer %q is configured twice", i.Name)
		}
		v.issuers[i.Name] = &i
		for _, alg := range i.Algorithms {
			if !slices.Contains(v.algorithms, jose.SignatureAlgorithm(alg)) {
				v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(alg))
			}
		}
	}
	if len(issuers) == 0 {
		return nil, fault.New(fault.Invalid, "no issuer of tokens: name at least one")
	}
	return v, nil
}

var algorithms = []string{string(jose.RS256), string(jose.PS256), string(jose.ES256), string(jose.EdDSA)}

// complete sets the defaults and checks.
func (i *Issuer) complete() error {
	i.Algorithms, i.Types = slices.Clone(i.Algorithms), slices.Clone(i.Types)
	if len(i.Algorithms) == 0 {
		i.Algorithms = algorithms
	}
	if len(i.Types) == 0 {
		i.Types = []string{"jwt", "at+jwt"}
	}
	if i.Leeway == 0 {
		i.Leeway = 30 * time.Second
	}
	i.Claims = i.Claims.complete()
	for _, alg := range i.Algorithms {
		if !slices.Contains(algorithms, alg) {
			return fault.New(fault.Invalid, "issuer %q: algorithm %q is not offered, expected some of %q", i.Name, alg, algorithms)
		}
	}
	switch {
	case i.Name == "" || i.Audience == "" || i.Keys == nil:
		return fault.New(fault.Invalid, "issuer %q needs a name, an audience and keys", i.Name)
	case i.Leeway < 0 || i.Leeway > time.Minute:
		return fault.New(fault.Invalid, "issuer %q: leeway %s, expected at most 60s", i.Name, i.Leeway)
	case i.Tenant != "":
		return access.CheckTenant(i.Tenant)
	}
	return nil
}

// Verify returns the bearer of a token. A token that is not accepted is
// fault.Unauthenticated: its code says why, its text does not; what the token
// said is in the cause, for the log. fault.Unavailable: the issuer's keys cannot
// be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (*access.Principal, error) {
	if err := v.checkForm(token); err != nil {
		return nil, err
	}
	signed, err := jose.ParseSignedCompact(token, v.algorithms)
	if err != nil {
		if _, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return nil, refuse(codeAlgorithm, "%w", err)
		}
		return nil, refuse(codeMalformed, "%w", err)
	}
	claims, err := decodeClaims(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	issuer := v.issuers[claims.issuer] // only to find the key; nothing else is believed yet
	if issuer == nil {
		return nil, refuse(codeIssuer, "issuer %.200q is not trusted", claims.issuer)
	}
	if err := issuer.verify(ctx, signed); err != nil {
		return nil, err
	}
	if err := claims.checkTimes(v.now(), issuer.Leeway); err != nil {
		return nil, err
	}
	return v.principal(issuer, claims)
}

// checkForm refuses what would cost more to take apart: the length before
// anything else, then all that is not base64url and dots, such as the line breaks
// that decoders skip.
func (v *Verifier) checkForm(token string) error {
	if len(token) > v.MaxBytes {
		return refuse(codeTooLong, "%d bytes, expected at most %d", len(token), v.MaxBytes)
	}
	for _, c := range []byte(token) {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.':
		default:
			return refuse(codeMalformed, "a byte %#x", c)
		}
	}
	return nil
}

// verify checks the header and the signature.
func (i *Issuer) verify(ctx context.Context, signed *jose.JSONWebSignature) error {
	h := signed.Signatures[0].Protected
	alg := jose.SignatureAlgorithm(h.Algorithm)
	if !slices.Contains(i.Algorithms, h.Algorithm) {
		return refuse(codeAlgorithm, "algorithm %.20q is not one of the issuer's", alg)
	}
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return refuse(codeCritical, "header %s", name)
		}
	}
	if typ, ok := h.ExtraHeaders["typ"].(string); !slices.Contains(i.Types, strings.TrimPrefix(strings.ToLower(typ), "application/")) || !ok && h.ExtraHeaders["typ"] != nil {
		return refuse(codeType, "type %.40q", typ)
	}
	key, err := i.Keys.key(ctx, h.KeyID)
	if err != nil {
		return err
	}
	if !key.suits(alg) {
		return refuse(codeAlgorithm, "algorithm %s does not suit the key", alg)
	}
	// The bare key: with a key set, go-jose would choose by itself.
	if _, err := signed.Verify(key.Key); err != nil {
		return refuse(codeSignature, "%w", err)
	}
	return nil
}
