// Package mtls says who the peer of a mutual TLS connection is, by rules on the
// SPIFFE id or the subject of its certificate.
//
// It judges only chains that the TLS stack has verified for client use, against
// the authorities that the operator trusts.
//
// Known limits: certificates are not checked for revocation; they are expected
// to be short-lived, as those of SPIFFE are.
package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"net/url"
	"slices"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// Rule maps certificates to what their holders may do. Exactly one of SPIFFE and
// Subject is set.
type Rule struct {
	// SPIFFE is an id such as spiffe://prod.example/ns/batch/worker. With "/*" at
	// the end it stands for all ids below.
	SPIFFE string
	// Subject is a whole subject as RFC 2253 writes it: "CN=worker,O=Acme". It is
	// looked at only in certificates without a SPIFFE id.
	Subject string
	Tenant  string
	Roles   []string
	Scopes  []access.Permission
}

// Mapper finds the principal of a certificate. It is immutable and safe for
// concurrent use.
type Mapper struct {
	rules []compiled
	now   func() time.Time
}

type compiled struct {
	Rule
	prefix      string // of a rule that ends in "/*", the slash included
	permissions access.Set
}

// New returns a mapper by the first rule that matches. fault.Invalid: a rule that
// is incomplete, or names a role that does not exist.
func New(roles *access.Roles, now func() time.Time, rules ...Rule) (*Mapper, error) {
	if len(rules) == 0 {
		return nil, fault.New(fault.Invalid, "no rule for client certificates: name at least one")
	}
	m := &Mapper{now: now}
	for i, r := range rules {
		if err := r.check(roles); err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "rule %d for client certificates is wrong", i+1)
		}
		c := compiled{Rule: r, permissions: roles.Effective(r.Roles, r.Scopes)}
		c.Roles = slices.Clone(r.Roles)
		if base, ok := strings.CutSuffix(r.SPIFFE, "*"); ok {
			c.prefix = base
		}
		m.rules = append(m.rules, c)
	}
	return m, nil
}

func (r Rule) check(roles *access.Roles) error {
	if (r.SPIFFE == "") == (r.Subject == "") {
		return fault.New(fault.Invalid, "expected either a SPIFFE id or a subject")
	}
	if r.SPIFFE != "" {
		u, err := url.Parse(strings.TrimSuffix(r.SPIFFE, "/*"))
		if err != nil || !isSPIFFE(u) || strings.Contains(u.Path, "*") {
			return fault.New(fault.Invalid, "%.200q is no SPIFFE id: expected spiffe://trust-domain/path, or with /* at the end", r.SPIFFE)
		}
	}
	for _, role := range r.Roles {
		if _, ok := roles.Get(role); !ok {
			return fault.New(fault.Invalid, "role %.80q does not exist, expected some of %q", role, roles.Names())
		}
	}
	return access.CheckTenant(r.Tenant)
}

// isSPIFFE follows the SPIFFE-ID specification, section 2: no port, user, query
// or fragment, and no path that could mean another one.
func isSPIFFE(u *url.URL) bool {
	if u.Scheme != "spiffe" || u.Host == "" || u.Port() != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawPath != "" {
		return false
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
		if part == "." || part == ".." || part == "" && u.Path != "" {
			return false
		}
	}
	return true
}

// Map returns the principal of a peer. chains are the VerifiedChains of its
// tls.ConnectionState: a peer without any is not verified. Certificates that no
// rule names, have expired since the handshake, or hold more than one SPIFFE id
// are fault.Unauthenticated.
func (m *Mapper) Map(chains [][]*x509.Certificate) (*access.Principal, error) {
	if len(chains) == 0 || len(chains[0]) == 0 {
		return nil, refuse("certificate_unverified", "the client certificate was not verified")
	}
	leaf := chains[0][0]
	if now := m.now(); now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return nil, refuse("certificate_expired", "the client certificate has expired: connect again with a current one")
	}
	id, spiffe, err := identify(leaf)
	if err != nil {
		return nil, err
	}
	for i := range m.rules {
		if r := &m.rules[i]; r.matches(id, spiffe) {
			return r.principal(id, leaf.NotAfter), nil
		}
	}
	return nil, refuse("certificate_unknown", "no rule names this client certificate: ask the operator for one")
}

// identify returns the SPIFFE id of the certificate, or its subject. A
// certificate with several URIs is no SPIFFE certificate (X.509-SVID section 2).
func identify(c *x509.Certificate) (id string, spiffe bool, err error) {
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if len(c.URIs) > 1 || !isSPIFFE(u) {
			return "", false, refuse("certificate_malformed", "the client certificate has a malformed SPIFFE id, or several URIs: expected exactly one")
		}
		return u.String(), true, nil
	}
	return c.Subject.String(), false, nil
}

func (c *compiled) matches(id string, spiffe bool) bool {
	switch {
	case !spiffe:
		return c.Subject != "" && c.Subject == id
	case c.prefix != "":
		return strings.HasPrefix(id, c.prefix)
	}
	return c.SPIFFE == id
}

func (c *compiled) principal(id string, expires time.Time) *access.Principal {
	return &access.Principal{
		Tenant: c.Tenant, Subject: "svc_" + pseudonym(id), Kind: access.KindService, Method: access.MethodPeer,
		Roles: c.Roles, Permissions: c.permissions, Expires: expires,
	}
}

// pseudonym is 128 bits of a hash: a subject may hold the name of a person.
func pseudonym(id string) string {
	sum := sha256.Sum256([]byte(id))
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

func refuse(code, text string) error {
	return fault.New(fault.Unauthenticated, "%s", text).WithCode(code)
}
