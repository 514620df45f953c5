package web

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"

	"sluice/internal/platform/fault"
)

// Authenticate finds out who sends a request and returns a context that carries
// the access.Principal. Where a credential is required and missing, or is not
// valid, it returns fault.Unauthenticated.
type Authenticate func(ctx context.Context, c Credentials) (context.Context, error)

// SchemeKey is the Credentials.Scheme of a key in the header X-Api-Key.
const SchemeKey = "x-api-key"

// Credentials are what a request offers to prove who sends it.
type Credentials struct {
	Scheme string // of the Authorization header in lower case, such as "bearer", or SchemeKey; empty if none was sent
	Token  string // what follows the scheme; secret
	Remote string // the client's address as host:port
	TLS    *tls.ConnectionState
}

// CredentialsOf reads a request's credentials: the Authorization header (RFC
// 9110, 11.6.2) or X-Api-Key. It refuses a request that sends several, for two
// readers might choose different ones.
func CredentialsOf(r *http.Request) (Credentials, error) {
	c := Credentials{Remote: r.RemoteAddr, TLS: r.TLS}
	authorization, key := r.Header["Authorization"], r.Header["X-Api-Key"]
	switch {
	case len(authorization)+len(key) > 1:
		return c, fault.New(fault.Unauthenticated, "the request carries several credentials: send exactly one Authorization or X-Api-Key header").
			WithCode("credential_ambiguous")
	case len(key) == 1:
		c.Scheme, c.Token = SchemeKey, strings.TrimSpace(key[0])
	case len(authorization) == 1:
		scheme, token, _ := strings.Cut(strings.TrimSpace(authorization[0]), " ")
		c.Scheme, c.Token = lower(scheme), strings.TrimSpace(token)
	}
	return c, nil
}

// lower is strings.ToLower without an allocation for the one scheme that nearly
// everybody sends, however it is written.
func lower(scheme string) string {
	if strings.EqualFold(scheme, "bearer") {
		return "bearer"
	}
	return strings.ToLower(scheme)
}
