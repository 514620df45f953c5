package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sluice/internal/platform/access"
)

const (
	trustedIssuer = "https://id.example"
	audience      = "sluice"
)

// epoch is the time of all tests that need none in particular.
var epoch = time.Unix(1_700_000_000, 0)

func atEpoch() time.Time { return epoch }

// keys are made once: RSA takes its time.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, otherRSA, smallRSA *rsa.PrivateKey
	ec                      *ecdsa.PrivateKey
	ec384                   *ecdsa.PrivateKey
	ed                      ed25519.PrivateKey
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.otherRSA, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.smallRSA, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	k.ec384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return k
})

// fields are a header or a payload.
type fields map[string]any

// with returns f with some of them changed; nil takes one out.
func (f fields) with(changes fields) fields {
	out := maps.Clone(f)
	for name, v := range changes {
		out[name] = v
		if v == nil {
			delete(out, name)
		}
	}
	return out
}

func goodHeader() fields { return fields{"alg": "RS256", "typ": "at+jwt", "kid": "rsa"} }

func goodClaims() fields {
	return fields{
		"iss": trustedIssuer, "aud": []string{"other", audience}, "sub": "ann@example.com", "tenant": "acme", "roles": []string{"operator"},
		"exp": epoch.Add(5 * time.Minute).Unix(), "nbf": epoch.Unix(), "iat": epoch.Unix(),
	}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign signs exactly this header and payload, however wrong they are.
func sign(t testing.TB, header, payload any, key any) string {
	t.Helper()
	input := encode(t, header) + "." + encode(t, payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(t, header, input, key))
}

func signature(t testing.TB, header any, input string, key any) []byte {
	t.Helper()
	digest := crypto.SHA256.New()
	digest.Write([]byte(input))
	sum := digest.Sum(nil)
	var sig []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if f, ok := header.(fields); ok && f["alg"] == "PS256" {
			sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum)
		}
	case *ecdsa.PrivateKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		r, s, failed := ecdsa.Sign(rand.Reader, key, sum)
		if err = failed; err == nil {
			sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, []byte(input))
	case []byte:
		sig = key // the signature itself
	default:
		t.Fatalf("a key of type %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func goodToken(t testing.TB) string { return sign(t, goodHeader(), goodClaims(), testKeys().rsa) }

func jwks(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func public(kid string, key any) jose.JSONWebKey { return jose.JSONWebKey{KeyID: kid, Key: key} }

func goodKeys(t testing.TB) Source {
	t.Helper()
	k := testKeys()
	s, err := NewStatic(jwks(t,
		public("rsa", &k.rsa.PublicKey), public("ec", &k.ec.PublicKey), public("ed", k.ed.Public()),
		jose.JSONWebKey{KeyID: "ps only", Key: &k.rsa.PublicKey, Algorithm: "PS256"},
	))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testRoles(t testing.TB) *access.Roles {
	t.Helper()
	c, err := access.NewCatalog(
		access.Declaration{Permission: "jobs:read", Roles: []string{access.Viewer, access.Operator}},
		access.Declaration{Permission: "jobs:run", Roles: []string{access.Operator}},
		access.Declaration{Permission: "tenants:write", Platform: true},
		access.Declaration{Permission: "self:use", Everyone: true},
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

func testIssuer(t testing.TB) Issuer {
	return Issuer{Name: trustedIssuer, Audience: audience, Keys: goodKeys(t)}
}

func testVerifier(t testing.TB, issuers ...Issuer) *Verifier {
	t.Helper()
	v, err := New(testRoles(t), atEpoch, Config{}, issuers...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
