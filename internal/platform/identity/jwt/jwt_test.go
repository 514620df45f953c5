package jwt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

func TestEveryAlgorithmIsVerified(t *testing.T) {
	v, k := testVerifier(t, testIssuer(t)), testKeys()
	for _, c := range []struct {
		alg, kid string
		key      any
	}{{"RS256", "rsa", k.rsa}, {"PS256", "rsa", k.rsa}, {"PS256", "ps only", k.rsa}, {"ES256", "ec", k.ec}, {"EdDSA", "ed", k.ed}} {
		p, err := v.Verify(t.Context(), sign(t, goodHeader().with(fields{"alg": c.alg, "kid": c.kid}), goodClaims(), c.key))
		if err != nil {
			t.Errorf("%s with %s: %v", c.alg, c.kid, err)
			continue
		}
		if p.Tenant != "acme" || p.Kind != access.KindUser || p.Method != access.MethodToken || !p.Permissions.Equal(access.SetOf("jobs:read", "jobs:run", "self:use")) {
			t.Errorf("%s: %+v", c.alg, p)
		}
		if want := epoch.Add(5*time.Minute + 30*time.Second); !p.Expires.Equal(want) {
			t.Errorf("expires %s, expected %s", p.Expires, want)
		}
	}
}

func TestTimesHaveALeeway(t *testing.T) {
	v := testVerifier(t, testIssuer(t))
	for name, change := range map[string]fields{
		"just expired":     {"exp": epoch.Add(-29 * time.Second).Unix()},
		"a fraction":       {"exp": float64(epoch.Unix()) + 0.5},
		"nearly valid":     {"nbf": epoch.Add(29 * time.Second).Unix()},
		"from a fast host": {"iat": epoch.Add(29 * time.Second).Unix()},
		"only an expiry":   {"nbf": nil, "iat": nil},
	} {
		if _, err := v.Verify(t.Context(), sign(t, goodHeader(), goodClaims().with(change), testKeys().rsa)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// verified is the principal of a good token with some claims changed.
func verified(t *testing.T, v *Verifier, change fields) *access.Principal {
	t.Helper()
	p, err := v.Verify(t.Context(), sign(t, goodHeader(), goodClaims().with(change), testKeys().rsa))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestScopesNarrow(t *testing.T) {
	v := testVerifier(t, testIssuer(t))
	for name, c := range map[string]struct {
		change fields
		want   []access.Permission
	}{
		"no scope":             {nil, []access.Permission{"jobs:read", "jobs:run"}},
		"one":                  {fields{"scope": "jobs:read"}, []access.Permission{"jobs:read"}},
		"several":              {fields{"scope": "openid jobs:read jobs:run"}, []access.Permission{"jobs:read", "jobs:run"}},
		"a list":               {fields{"scope": []string{"jobs:run"}}, []access.Permission{"jobs:run"}},
		"beyond the roles":     {fields{"scope": "tenants:write jobs:read"}, []access.Permission{"jobs:read"}},
		"only foreign ones":    {fields{"scope": "openid profile"}, nil},
		"an empty one":         {fields{"scope": ""}, nil},
		"a wildcard":           {fields{"scope": "*:*"}, nil},
		"no roles":             {fields{"roles": nil, "scope": "jobs:read"}, nil},
		"foreign roles":        {fields{"roles": []string{"offline_access", "viewer"}}, []access.Permission{"jobs:read"}},
		"roles in one text":    {fields{"roles": "viewer operator"}, []access.Permission{"jobs:read", "jobs:run"}},
		"a platform's role":    {fields{"roles": []string{"platform_admin"}}, []access.Permission{"jobs:read", "jobs:run"}},
		"a platform's by name": {fields{"roles": []string{"platform_admin"}, "scope": "tenants:write"}, nil},
	} {
		c.want = append(c.want, "self:use") // whatever the token says
		if got := verified(t, v, c.change).Permissions.List(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, expected %v", name, got, c.want)
		}
	}
}

func TestIssuersAreMapped(t *testing.T) {
	fixed := testIssuer(t)
	fixed.Tenant, fixed.Platform, fixed.Claims = "own", true, Claims{Roles: "realm_access.roles", Scope: "-"}
	v := testVerifier(t, fixed)
	p := verified(t, v, fields{"tenant": "other", "scope": "openid", "realm_access": fields{"roles": []string{"platform_admin"}}})
	if p.Tenant != "own" || !p.Can("tenants:write") {
		t.Errorf("%+v", p)
	}
	// The exact name goes first, at every step: some issuers have names with dots.
	dotted := testIssuer(t)
	dotted.Claims = Claims{Tenant: "https://x.example/tenant", Roles: "a.b.c"}
	p = verified(t, testVerifier(t, dotted), fields{"https://x.example/tenant": "named", "a": fields{"b": fields{"c": "viewer"}, "b.c": "operator"}})
	if p.Tenant != "named" || !slices.Equal(p.Roles, []string{"operator"}) {
		t.Errorf("%+v", p)
	}
}

// Ids of subjects tell nothing of who they are, and are stable.
func TestSubjectsArePseudonyms(t *testing.T) {
	v := testVerifier(t, testIssuer(t))
	p := verified(t, v, nil)
	if !strings.HasPrefix(p.Subject, "usr_") || strings.Contains(p.Subject, "ann") || len(p.Subject) != len("usr_")+26 {
		t.Errorf("subject %q", p.Subject)
	}
	if again := verified(t, v, nil); again.Subject != p.Subject {
		t.Errorf("%q, then %q", p.Subject, again.Subject)
	}
	if other := verified(t, v, fields{"sub": "bob"}); other.Subject == p.Subject {
		t.Error("two with one id")
	}
	program := verified(t, v, fields{"client_id": "ann@example.com"})
	if program.Kind != access.KindService || !strings.HasPrefix(program.Subject, "svc_") {
		t.Errorf("%+v", program)
	}
	keyed, err := New(testRoles(t), atEpoch, Config{Pseudonym: secret.Of("pepper")}, testIssuer(t))
	if err != nil {
		t.Fatal(err)
	}
	if verified(t, keyed, nil).Subject == p.Subject {
		t.Error("the pseudonym's key changes nothing")
	}
	if v.pseudonym("ab", "c") == v.pseudonym("a", "bc") {
		t.Error("issuer and subject run together")
	}
}

// An issuer's key and algorithms count for its own tokens only.
func TestIssuersAreKeptApart(t *testing.T) {
	k := testKeys()
	own, err := NewStatic(jwks(t, public("rsa", &k.otherRSA.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	second := Issuer{Name: "https://second.example", Audience: "second", Keys: own, Algorithms: []string{"PS256"}, Types: []string{""}}
	v := testVerifier(t, testIssuer(t), second)
	claims := goodClaims().with(fields{"iss": second.Name, "aud": "second"})
	untyped := goodHeader().with(fields{"alg": "PS256", "typ": nil})
	if _, err := v.Verify(t.Context(), sign(t, untyped, claims, k.otherRSA)); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), sign(t, untyped.with(fields{"typ": 7}), claims, k.otherRSA)); fault.CodeOf(err) != codeType {
		t.Errorf("a type that is no text where none is needed: %v", err)
	}
	for code, token := range map[string]string{
		codeSignature: sign(t, untyped, claims, k.rsa),
		codeAlgorithm: sign(t, untyped.with(fields{"alg": "RS256"}), claims, k.otherRSA),
		codeAudience:  sign(t, untyped, claims.with(fields{"aud": audience}), k.otherRSA),
		codeType:      sign(t, untyped.with(fields{"typ": "JWT"}), claims, k.otherRSA),
	} {
		if _, err := v.Verify(t.Context(), token); fault.CodeOf(err) != code {
			t.Errorf("%v, expected %s", err, code)
		}
	}
}

func TestUnsafeConfigurationIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Issuer){
		"no name":           func(i *Issuer) { i.Name = "" },
		"no audience":       func(i *Issuer) { i.Audience = "" },
		"no keys":           func(i *Issuer) { i.Keys = nil },
		"none":              func(i *Issuer) { i.Algorithms = []string{"none"} },
		"HS256":             func(i *Issuer) { i.Algorithms = []string{"RS256", "HS256"} },
		"too much leeway":   func(i *Issuer) { i.Leeway = 61 * time.Second },
		"negative leeway":   func(i *Issuer) { i.Leeway = -1 },
		"a tenant of dots":  func(i *Issuer) { i.Tenant = ".." },
		"a tenant of stars": func(i *Issuer) { i.Tenant = "*" },
	} {
		i := testIssuer(t)
		change(&i)
		if _, err := New(testRoles(t), atEpoch, Config{}, i); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, issuers := range [][]Issuer{nil, {testIssuer(t), testIssuer(t)}} {
		if _, err := New(testRoles(t), atEpoch, Config{}, issuers...); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d issuers: %v", len(issuers), err)
		}
	}
}

func TestOnlyFitKeysAreTaken(t *testing.T) {
	k := testKeys()
	set, err := decodeKeys(jwks(t,
		public("good", &k.rsa.PublicKey),
		public("", &k.rsa.PublicKey),
		public("small", &k.smallRSA.PublicKey),
		public("P-384", &k.ec384.PublicKey),
		public("private", k.ec),
		public("symmetric", []byte("0123456789abcdef0123456789abcdef")),
		jose.JSONWebKey{KeyID: "encryption", Key: &k.rsa.PublicKey, Use: "enc"},
		jose.JSONWebKey{KeyID: "HS256", Key: &k.rsa.PublicKey, Algorithm: "HS256"},
		jose.JSONWebKey{KeyID: "RS512", Key: &k.rsa.PublicKey, Algorithm: "RS512"},
		jose.JSONWebKey{KeyID: "RS256 of a curve", Key: &k.ec.PublicKey, Algorithm: "RS256"},
	))
	if _, ok := set["good"]; err != nil || len(set) != 1 || !ok {
		t.Errorf("%v, %v", set, err)
	}
	if _, err := decodeKeys([]byte(`{"keys":[{"kty":"new","kid":"x"},7,null]}`)); err != nil {
		t.Errorf("what is not understood spoils the rest: %v", err)
	}
	for name, raw := range map[string][]byte{
		"no JSON":  []byte("<html>"),
		"no keys":  []byte("{}"),
		"null":     []byte("null"),
		"too many": []byte(`{"keys":[0` + strings.Repeat(",0", maxKeys) + `]}`),
		"one id":   jwks(t, public("x", &k.rsa.PublicKey), public("x", &k.ec.PublicKey)),
	} {
		if _, err := decodeKeys(raw); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	if _, err := NewStaticFile(path); !fault.Is(err, fault.Invalid) {
		t.Errorf("no file: %v", err)
	}
	for want, content := range map[fault.Kind][]byte{
		fault.Invalid:  []byte(`{"keys":[]}`),
		fault.TooLarge: make([]byte, maxSetBytes+1),
	} {
		write(t, path, content)
		if _, err := NewStaticFile(path); !fault.Is(err, want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
	write(t, path, jwks(t, public("rsa", &testKeys().rsa.PublicKey)))
	s, err := NewStaticFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := testIssuer(t)
	i.Keys = s
	if _, err := testVerifier(t, i).Verify(t.Context(), goodToken(t)); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecodeKeys(f *testing.F) {
	f.Add(jwks(f, public("rsa", &testKeys().rsa.PublicKey), public("ed", testKeys().ed.Public())))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":"","kid":"a"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		set, err := decodeKeys(raw)
		for id, k := range set {
			if err != nil || id == "" || !k.IsPublic() || !k.Valid() {
				t.Errorf("key %q of %q", id, raw)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v, k := testVerifier(b, testIssuer(b)), testKeys()
	h := goodHeader()
	for name, token := range map[string]string{
		"RS256": sign(b, h, goodClaims(), k.rsa),
		"ES256": sign(b, h.with(fields{"alg": "ES256", "kid": "ec"}), goodClaims(), k.ec),
		"EdDSA": sign(b, h.with(fields{"alg": "EdDSA", "kid": "ed"}), goodClaims(), k.ed),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	unknown := sign(b, h.with(fields{"kid": "x"}), goodClaims(), k.rsa)
	b.Run("unknown key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), unknown); fault.CodeOf(err) != codeKey {
				b.Fatal(err)
			}
		}
	})
}
