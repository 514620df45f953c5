package identity

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) apikey.Key {
	t.Helper()
	k, err := apikey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testRoles(t testing.TB) *access.Roles {
	t.Helper()
	c, err := access.NewCatalog(
		access.Declaration{Permission: "jobs:read", Roles: []string{access.Operator}},
		access.Declaration{Permission: "jobs:run", Roles: []string{access.Operator}},
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := access.NewRoles(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// says is a verifier that accepts one text.
type says struct{ text, subject string }

func (s says) Verify(_ context.Context, text string) (*access.Principal, error) {
	if text != s.text {
		return nil, fault.New(fault.Unauthenticated, "not accepted").WithCode("wrong_" + s.subject)
	}
	return &access.Principal{Tenant: "acme", Subject: s.subject}, nil
}

func (s says) Map([][]*x509.Certificate) (*access.Principal, error) {
	return &access.Principal{Tenant: "acme", Subject: s.subject}, nil
}

func TestOneCredentialIsAccepted(t *testing.T) {
	key := newKey(t).Secret.Reveal()
	all := Config{Keys: says{key, "key"}, Tokens: says{"a.b.c", "token"}, Peers: says{"", "peer"}}
	chain := [][]*x509.Certificate{{{}}}
	one := func(texts ...string) []string { return texts }
	for name, c := range map[string]struct {
		cfg   Config
		shown Credentials
		want  string // the subject, or the code of the refusal
	}{
		"nothing":                   {all, Credentials{}, "credential_missing"},
		"key as bearer":             {all, Credentials{Authorization: one("Bearer " + key)}, "key"},
		"scheme in capitals":        {all, Credentials{Authorization: one("BEARER " + key)}, "key"},
		"key in its header":         {all, Credentials{APIKey: one(key)}, "key"},
		"token":                     {all, Credentials{Authorization: one("Bearer a.b.c")}, "token"},
		"peer":                      {all, Credentials{Peer: chain}, "peer"},
		"peer that nobody asks for": {Config{Keys: all.Keys}, Credentials{Peer: chain, APIKey: one(key)}, "key"},
		"only such a peer":          {Config{Keys: all.Keys}, Credentials{Peer: chain}, "credential_missing"},

		"wrong key":          {all, Credentials{APIKey: one("slc_live_x")}, "wrong_key"},
		"token as key":       {all, Credentials{APIKey: one("a.b.c")}, "wrong_key"},
		"wrong token":        {all, Credentials{Authorization: one("Bearer a.b.d")}, "wrong_token"},
		"empty bearer":       {all, Credentials{Authorization: one("Bearer ")}, "credential_unsupported"},
		"no scheme":          {all, Credentials{Authorization: one(key)}, "credential_unsupported"},
		"empty header":       {all, Credentials{Authorization: one("")}, "credential_unsupported"},
		"empty key":          {all, Credentials{APIKey: one("")}, "wrong_key"},
		"password":           {all, Credentials{Authorization: one("Basic YTpi")}, "credential_unsupported"},
		"two spaces":         {all, Credentials{Authorization: one("Bearer  a.b.c")}, "wrong_token"},
		"joined by a proxy":  {all, Credentials{Authorization: one("Bearer a.b.c, Bearer a.b.c")}, "wrong_token"},
		"keys not accepted":  {Config{Tokens: all.Tokens}, Credentials{Authorization: one("Bearer " + key)}, "credential_unsupported"},
		"nor in the header":  {Config{Tokens: all.Tokens}, Credentials{APIKey: one(key)}, "credential_unsupported"},
		"tokens not":         {Config{Keys: all.Keys}, Credentials{Authorization: one("Bearer a.b.c")}, "credential_unsupported"},
		"two headers":        {all, Credentials{Authorization: one("Bearer "+key, "Bearer "+key)}, "credential_ambiguous"},
		"two keys":           {all, Credentials{APIKey: one(key, key)}, "credential_ambiguous"},
		"key and token":      {all, Credentials{APIKey: one(key), Authorization: one("Bearer a.b.c")}, "credential_ambiguous"},
		"key and nonsense":   {all, Credentials{APIKey: one(key), Authorization: one("")}, "credential_ambiguous"},
		"peer and key":       {all, Credentials{Peer: chain, APIKey: one(key)}, "credential_ambiguous"},
		"unverified and key": {all, Credentials{Peer: nil, APIKey: one(key)}, "key"},
	} {
		a, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.Authenticate(t.Context(), c.shown)
		if err == nil && p.Subject != c.want || err != nil && (p != nil || fault.CodeOf(err) != c.want) {
			t.Errorf("%s: %v, %v, expected %s", name, p, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "slc_live_x") || strings.Contains(err.Error(), key)) {
			t.Errorf("%s: the error tells the credential: %v", name, err)
		}
	}
}

// What was not configured keeps everybody out; to let everybody in has to be
// asked for by name.
func TestNothingConfiguredIsNotAnonymous(t *testing.T) {
	if _, err := New(Config{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no kind of credential: %v", err)
	}
	a := Anonymous(access.SetOf("jobs:run"))
	p, err := a.Authenticate(t.Context(), Credentials{Authorization: []string{"Bearer x", "y"}})
	if err != nil || a.Required() || p.Kind != access.KindAnonymous || p.Tenant != access.DefaultTenant || !p.Can("jobs:run") {
		t.Errorf("%+v, %v", p, err)
	}
	if a, err := New(Config{Tokens: says{}}); err != nil || !a.Required() {
		t.Error("authentication is off")
	}
}

func TestChallenges(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{access.ErrNoCredential, `Bearer realm="sluice"`},
		{errKeyExpired, `Bearer realm="sluice", error="invalid_token"`},
		{access.Check(access.With(t.Context(), &access.Principal{}), "jobs:run"), `Bearer realm="sluice", error="insufficient_scope"`},
		{errAmbiguous, `Bearer realm="sluice", error="invalid_request"`},
		{errKeysBusy, ""},
		{errors.New("x"), ""},
	} {
		if got := Challenge(c.err); got != c.want {
			t.Errorf("%v: %s, expected %s", c.err, got, c.want)
		}
	}
}

// The path of every request: a known key costs no store and hardly memory.
func TestKnownKeysAreCheap(t *testing.T) {
	a, shown := hotPath(t)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := a.Authenticate(context.Background(), shown); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

func hotPath(t testing.TB) (*Authenticator, Credentials) {
	t.Helper()
	key := newKey(t)
	lookup := func(context.Context, apikey.Hash) (KeyRecord, error) {
		return KeyRecord{ID: "key_1", Hash: key.Hash, Tenant: "acme", Roles: []string{access.Operator}}, nil
	}
	keys, err := NewKeys(lookup, testRoles(t), time.Now, KeysConfig{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return a, Credentials{Authorization: []string{"Bearer " + key.Secret.Reveal()}}
}

func BenchmarkAuthenticateKnownKey(b *testing.B) {
	a, shown := hotPath(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), shown); err != nil {
			b.Fatal(err)
		}
	}
}

// Issuers of tokens and certificates do not know which tenants are suspended.
func TestTenantsOfOthersCredentialsAreChecked(t *testing.T) {
	key := newKey(t).Secret.Reveal()
	suspended := fault.New(fault.Unauthenticated, "no").WithCode("tenant_unknown")
	a, err := New(Config{Keys: says{key, "key"}, Tokens: says{"a.b.c", "token"}, Peers: says{"", "peer"}, Tenant: func(_ context.Context, id string) error {
		if id != "acme" {
			t.Errorf("asked for tenant %q", id)
		}
		return suspended
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string]Credentials{"token": {Authorization: []string{"Bearer a.b.c"}}, "peer": {Peer: [][]*x509.Certificate{{{}}}}} {
		if p, err := a.Authenticate(t.Context(), shown); p != nil || fault.CodeOf(err) != "tenant_unknown" {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := a.Authenticate(t.Context(), Credentials{APIKey: []string{key}}); err != nil || p.Subject != "key" {
		t.Errorf("keys are looked up with their tenant: %v, %v", p, err)
	}
}
