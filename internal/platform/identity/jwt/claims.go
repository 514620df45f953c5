package jwt

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // refuses duplicate and differently cased names

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// claims is the payload of a token.
type claims struct {
	all                 map[string]json.RawMessage
	issuer, subject     string
	client              string
	audience            []string
	expires             time.Time
	notBefore, issuedAt time.Time // zero if not said
}

func decodeClaims(raw []byte) (*claims, error) {
	c := new(claims)
	if err := json.Unmarshal(raw, &c.all); err != nil || c.all == nil {
		return nil, refuse(codeMalformed, "the payload is no JSON object: %v", err)
	}
	var err error
	read := func(name string, decode func(json.RawMessage) error) {
		if raw, ok := c.all[name]; ok && err == nil {
			if failed := decode(raw); failed != nil {
				err = refuse(codeClaims, "claim %s: %w", name, failed)
			}
		}
	}
	text := func(s *string) func(json.RawMessage) error {
		return func(raw json.RawMessage) error { return json.Unmarshal(raw, s) }
	}
	date := func(t *time.Time) func(json.RawMessage) error {
		return func(raw json.RawMessage) (err error) { *t, err = decodeDate(raw); return err }
	}
	read("iss", text(&c.issuer))
	read("sub", text(&c.subject))
	read("client_id", text(&c.client))
	read("aud", func(raw json.RawMessage) (err error) { c.audience, err = decodeTexts(raw, false); return err })
	read("exp", date(&c.expires))
	read("nbf", date(&c.notBefore))
	read("iat", date(&c.issuedAt))
	return c, err
}

// decodeDate reads a NumericDate (RFC 7519 section 2) of the years 1970 to 9999.
// Cutting off fractions lets a token end early, never late.
func decodeDate(raw json.RawMessage) (time.Time, error) {
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err != nil {
		return time.Time{}, err
	}
	if string(raw) == "null" || !(seconds >= 0 && seconds < 253402300800) {
		return time.Time{}, fmt.Errorf("%.40s is no date", raw)
	}
	return time.Unix(int64(seconds), 0), nil
}

// decodeTexts reads a list of texts, or one text, which may hold several.
func decodeTexts(raw json.RawMessage, spaced bool) ([]string, error) {
	var one string
	if err := json.Unmarshal(raw, &one); err == nil && string(raw) != "null" {
		if spaced {
			return strings.Fields(one), nil
		}
		return []string{one}, nil
	}
	var many []string
	err := json.Unmarshal(raw, &many)
	return many, err
}

func (c *claims) checkTimes(now time.Time, leeway time.Duration) error {
	switch {
	case c.expires.IsZero():
		return refuse(codeClaims, "no claim exp")
	case !now.Before(c.expires.Add(leeway)):
		return refuse(codeExpired, "expired at %s", c.expires)
	case now.Add(leeway).Before(c.notBefore):
		return refuse(codeTooEarly, "not before %s", c.notBefore)
	case now.Add(leeway).Before(c.issuedAt):
		return refuse(codeTooEarly, "issued at %s", c.issuedAt)
	}
	return nil
}

// find returns the claim with the name, or where the dots of the name lead.
func (c *claims) find(name string) (json.RawMessage, bool) {
	raw, ok := c.all[name]
	within := c.all
	for !ok {
		head, rest, more := strings.Cut(name, ".")
		if !more {
			return nil, false
		}
		var next map[string]json.RawMessage
		if json.Unmarshal(within[head], &next) != nil {
			return nil, false
		}
		within, name = next, rest
		raw, ok = within[name]
	}
	return raw, true
}

func (n Claims) complete() Claims {
	return Claims{Tenant: cmp.Or(n.Tenant, "tenant"), Roles: cmp.Or(n.Roles, "roles"), Scope: cmp.Or(n.Scope, "scope")}
}

// principal makes the bearer of a token that is verified.
func (v *Verifier) principal(i *Issuer, c *claims) (*access.Principal, error) {
	if !slices.Contains(c.audience, i.Audience) {
		return nil, refuse(codeAudience, "audience %.200q", c.audience)
	}
	if c.subject == "" {
		return nil, refuse(codeClaims, "no claim sub")
	}
	p := &access.Principal{Tenant: i.Tenant, Method: access.MethodToken, Kind: access.KindUser, Expires: c.expires.Add(i.Leeway)}
	prefix := "usr_"
	if c.client == c.subject { // RFC 9068 section 2.2: no user took part
		p.Kind, prefix = access.KindService, "svc_"
	}
	p.Subject = prefix + v.pseudonym(i.Name, c.subject)
	if p.Tenant == "" {
		raw, _ := c.find(i.Claims.Tenant)
		if err := json.Unmarshal(raw, &p.Tenant); err != nil || access.CheckTenant(p.Tenant) != nil {
			return nil, refuse(codeTenant, "claim %s: %.80q names no tenant", i.Claims.Tenant, raw)
		}
	}
	if err := v.grant(p, i, c); err != nil {
		return nil, err
	}
	return p, nil
}

func (v *Verifier) grant(p *access.Principal, i *Issuer, c *claims) error {
	var err error
	if raw, ok := c.find(i.Claims.Roles); ok {
		if p.Roles, err = decodeTexts(raw, true); err != nil {
			return refuse(codeClaims, "claim %s: %w", i.Claims.Roles, err)
		}
	}
	p.Permissions = v.roles.Granted(p.Roles)
	if !i.Platform {
		p.Permissions = p.Permissions.Without(v.roles.Platform())
	}
	if raw, ok := c.find(i.Claims.Scope); ok && i.Claims.Scope != "-" {
		scopes, err := decodeTexts(raw, true)
		if err != nil {
			return refuse(codeClaims, "claim %s: %w", i.Claims.Scope, err)
		}
		named := make([]access.Permission, len(scopes))
		for n, s := range scopes {
			named[n] = access.Permission(s)
		}
		p.Permissions = p.Permissions.Intersect(access.SetOf(named...).Union(v.roles.Everyone()))
	}
	return nil
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// pseudonym is 128 bits of a hash of who it is: sub may be an e-mail address,
// which has no place in logs and in the audit trail. The length keeps
// ("a", "bc") apart from ("ab", "c").
func (v *Verifier) pseudonym(issuer, subject string) string {
	h := hmac.New(sha256.New, []byte(v.Pseudonym.Reveal()))
	fmt.Fprintf(h, "%d:%s%s", len(issuer), issuer, subject)
	return idEncoding.EncodeToString(h.Sum(nil)[:16])
}

// refuse returns the one text that clients see, with the reason for the log.
func refuse(code, reason string, args ...any) error {
	return fault.Wrap(fault.Unauthenticated, fmt.Errorf(reason, args...), "the bearer token was not accepted: send a current token of an issuer that this server trusts").
		WithCode(code)
}
