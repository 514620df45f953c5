package rpc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/web/limit"
)

// Public is the permission of a method that needs no credential. It is never a
// default.
const Public access.Permission = "public"

// Gate decides who may call what, before a request message is received. Every
// method of every service needs a row in Methods: a server that lacks one, or
// has one for a method that does not exist, is not built.
type Gate struct {
	// Authenticate finds out who calls: (*identity.Authenticator).Authenticate
	// does. Where a credential is missing or not valid it returns
	// fault.Unauthenticated.
	Authenticate func(ctx context.Context, c identity.Credentials) (*access.Principal, error)
	// Methods has what callers need for each method, by its full name
	// ("/package.Service/Method"), or Public.
	Methods map[string]access.Permission
	// Limits holds callers to their quotas: a call counts once, and in a stream
	// each further message of the client counts too. Nil limits nothing.
	Limits *limit.Limits
	// Refused is told of every call that is turned away: with Unauthenticated,
	// where the context has no principal, or with PermissionDenied, where it has
	// one. Nil tells nobody.
	Refused func(ctx context.Context, method string, err error)
	// Now is the time by which credentials end; default time.Now.
	Now func() time.Time
}

// resolve returns a checked copy with its defaults set; nil stays nil.
func (g *Gate) resolve() (*Gate, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // no gate
	}
	if g.Authenticate == nil {
		return nil, fault.New(fault.Invalid, "rpc: a gate without Authenticate: where everything is allowed, give one that says so")
	}
	c := *g
	c.Methods = maps.Clone(g.Methods)
	if c.Refused == nil {
		c.Refused = func(context.Context, string, error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &c, nil
}

// check compares the table with the methods that there are.
func (g *Gate) check(methods []string) error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, m := range methods {
		if g.Methods[m] == "" {
			errs = append(errs, fault.New(fault.Invalid, "the gRPC method %s has no permission: name one, or rpc.Public", m))
		}
	}
	for _, m := range slices.Sorted(maps.Keys(g.Methods)) {
		if !slices.Contains(methods, m) {
			errs = append(errs, fault.New(fault.Invalid, "the gRPC method %s has a permission, but does not exist", m))
		}
	}
	return errors.Join(errs...)
}

// pass is a caller's right to go on with a call.
type pass struct {
	gate      *Gate
	principal *access.Principal // nil where nobody had to be asked
}

// enter decides whether a call may be made, and returns its context with the
// principal in it.
func (g *Gate) enter(ctx context.Context, method string) (context.Context, pass, error) {
	if g == nil {
		return ctx, pass{}, nil
	}
	permission := g.Methods[method]
	if permission == Public {
		return ctx, pass{}, nil
	}
	c, err := credentialsOf(ctx)
	if err != nil {
		return ctx, pass{}, g.refuse(ctx, method, err)
	}
	p, err := g.Authenticate(ctx, c)
	if err != nil {
		return ctx, pass{}, g.refuse(ctx, method, err)
	}
	ctx = access.With(ctx, p)
	admitted := pass{g, p}
	if err := admitted.take(ctx); err != nil {
		return ctx, pass{}, err
	}
	// A method without a row has the permission "", which nobody holds.
	if err := access.Check(ctx, permission); err != nil {
		return ctx, pass{}, g.refuse(ctx, method, err)
	}
	return ctx, admitted, nil
}

func (g *Gate) refuse(ctx context.Context, method string, err error) error {
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.PermissionDenied) {
		g.Refused(ctx, method, err)
	}
	return err
}

// take counts a message against the caller's quotas.
func (p pass) take(ctx context.Context) error {
	if p.gate == nil || p.gate.Limits == nil {
		return nil
	}
	return p.gate.Limits.Take(ctx, p.principal.Tenant, p.principal.Subject).Err()
}

// holds refuses to go on where the credential has ended meanwhile.
func (p pass) holds(ctx context.Context) error {
	if p.principal == nil {
		return nil
	}
	return p.principal.Holds(ctx, p.gate.Now())
}

// credentialsOf reads a call's credentials: the metadata authorization or
// x-api-key, and the verified certificates of the connection. It refuses a call
// that sends several texts, for two readers might choose different ones.
func credentialsOf(ctx context.Context) (identity.Credentials, error) {
	var c identity.Credentials
	for _, value := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		c.Authorization = append(c.Authorization, strings.TrimSpace(value))
	}
	for _, value := range metadata.ValueFromIncomingContext(ctx, "x-api-key") {
		c.APIKey = append(c.APIKey, strings.TrimSpace(value))
	}
	if len(c.Authorization)+len(c.APIKey) > 1 {
		return c, fault.New(fault.Unauthenticated, "the call carries several credentials: send exactly one authorization or x-api-key in its metadata").
			WithCode("credential_ambiguous")
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			c.Peer = info.State.VerifiedChains
		}
	}
	return c, nil
}
