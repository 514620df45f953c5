package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/platform/access"
	"sluice/internal/platform/config"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity"
	"sluice/internal/platform/rpc"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/limit"
)

// gate is what every request passes, over HTTP and over gRPC: it finds out who
// sends it, holds them to the same quotas, and tells who was turned away.
type gate struct {
	*identity.Authenticator
	keys    *identity.Keys // nil while authentication is off
	limits  *limit.Limits  // nil limits nothing
	bus     *cqrs.Bus
	refused *prometheus.CounterVec // by reason
}

// newGate returns the gate that the configuration asks for.
func newGate(cfg config.Config, n *node.Node, metrics prometheus.Registerer) (g *gate, err error) {
	g = &gate{bus: n.Bus, refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_auth_refused_total", Help: "Requests and calls without a valid credential, by the reason.",
	}, []string{"reason"})}
	if err := metrics.Register(g.refused); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
	}
	if g.limits, err = newLimits(cfg); err != nil {
		return nil, err
	}
	if !cfg.Authenticated() {
		g.Authenticator = identity.Anonymous(n.Catalog.Everything())
		return g, nil
	}
	if g.keys, err = identity.NewKeys(n.Directory.Lookup, n.Roles, time.Now, identity.KeysConfig{}); err != nil {
		return nil, err
	}
	n.Directory.Invalidate(g.keys)
	accepted := identity.Config{Keys: g.keys, Tenant: n.Directory.Admit}
	if cfg.Auth.JWTIssuer != "" {
		if accepted.Tokens, err = newTokens(cfg.Auth, n, metrics); err != nil {
			return nil, err
		}
	}
	g.Authenticator, err = identity.New(accepted)
	return g, err
}

// routes returns the table of an HTTP server's routes behind the gate.
func (g *gate) routes() *web.Routes {
	t := web.NewRoutes(g.authenticate, g.limits)
	t.Refused = func(ctx context.Context, r web.Route, err error) { g.deny(ctx, action(r), err) }
	return t
}

// action is what the audit log calls the use of a route, in the characters that
// it allows.
func action(r web.Route) string {
	return "http:" + r.Method + ":" + strings.ReplaceAll(r.Path, "*", ":rest")
}

// methods returns the gate before a gRPC server's methods.
func (g *gate) methods() *rpc.Gate {
	return &rpc.Gate{
		Authenticate: g.who, Methods: grpcPermissions(), Limits: g.limits, Refused: g.deny,
	}
}

// authenticate implements web.Authenticate.
func (g *gate) authenticate(ctx context.Context, c web.Credentials) (context.Context, error) {
	var shown identity.Credentials
	switch {
	case !g.Required() || c.Scheme == "":
	case c.Scheme == web.SchemeKey:
		shown.APIKey = []string{c.Token}
	default:
		shown.Authorization = []string{c.Scheme + " " + c.Token}
	}
	if c.TLS != nil {
		shown.Peer = c.TLS.VerifiedChains
	}
	p, err := g.who(ctx, shown)
	if err != nil {
		return nil, err
	}
	return access.Enter(ctx, p), nil
}

// who returns who shows the credentials, or says no more than that they are not
// valid: whether a key was once good, or a tenant exists, is nobody's business.
// What can be seen in the request itself may be told: that it has no credential,
// or one of a kind that is not taken. Logs and metrics have the reason.
func (g *gate) who(ctx context.Context, c identity.Credentials) (*access.Principal, error) {
	p, err := g.Authenticate(ctx, c)
	if err == nil || !fault.Is(err, fault.Unauthenticated) {
		return p, err
	}
	switch fault.CodeOf(err) {
	case "credential_missing", "credential_unsupported":
		return nil, err
	}
	return nil, fault.Wrap(fault.Unauthenticated, err, "the credential is not valid: it may be malformed, unknown, expired or revoked, or its tenant suspended; ask an administrator of your tenant for a new one").
		WithCode("credential_invalid")
}

// take counts a message of a stream against its sender's quotas, as gRPC does.
func (g *gate) take(ctx context.Context, p *access.Principal) error {
	if g.limits == nil {
		return nil
	}
	return g.limits.Take(ctx, p.Tenant, p.Subject).Err()
}

// deny accounts for a request that was turned away. Denials of those who are
// known are audited. Others are counted by reason and nothing more: anybody can
// send any number of them, and an audit log that strangers can fill is none.
func (g *gate) deny(ctx context.Context, action string, err error) {
	if _, known := access.From(ctx); known {
		g.bus.Denied(ctx, action, err)
		return
	}
	if cause := errors.Unwrap(fault.Of(err)); cause != nil {
		err = cause
	}
	g.refused.WithLabelValues(fault.CodeOf(err)).Inc()
}
