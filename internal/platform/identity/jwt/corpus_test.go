package jwt

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// bad is a token that must be refused, and why.
type bad struct{ name, code, token string }

// badTokens is the corpus of attacks and mistakes. Each differs from a good
// token in one thing.
func badTokens(t testing.TB) []bad {
	k := testKeys()
	h, c := goodHeader(), goodClaims()
	signed := func(header, claims fields) string { return sign(t, header, claims, k.rsa) }
	header := func(changes fields) string { return signed(h.with(changes), c) }
	payload := func(changes fields) string { return signed(h, c.with(changes)) }
	good := goodToken(t)
	parts := strings.Split(good, ".")
	at := func(d time.Duration) int64 { return epoch.Add(d).Unix() }

	hs := func(secret []byte) string {
		input := encode(t, h.with(fields{"alg": "HS256"})) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	own := fields{"jwk": jose.JSONWebKey{Key: &k.otherRSA.PublicKey, KeyID: "rsa"}}

	return []bad{
		// form
		{"empty", codeMalformed, ""},
		{"one part", codeMalformed, parts[0]},
		{"two parts", codeMalformed, parts[0] + "." + parts[1]},
		{"four parts", codeMalformed, good + ".AAAA"},
		{"five parts, as of an encrypted one", codeMalformed, good + ".AAAA.AAAA"},
		{"only dots", codeAlgorithm, ".."},
		{"dots without end", codeMalformed, strings.Repeat(".", 8000)},
		{"too long", codeTooLong, good + strings.Repeat("A", 8<<10)},
		{"a megabyte of dots", codeTooLong, strings.Repeat(".", 1<<20)},
		{"a space", codeMalformed, good + " "},
		{"a line break, which base64 decoders skip", codeMalformed, good[:20] + "\n" + good[20:]},
		{"padding", codeMalformed, good + "="},
		{"the other base64", codeMalformed, strings.Replace(good, ".", "+.", 1)},
		{"JSON serialisation", codeMalformed, `{"payload":"` + parts[1] + `"}`},
		{"header no JSON", codeMalformed, "AAAA." + parts[1] + "." + parts[2]},
		{"payload no JSON", codeMalformed, sign(t, h, "text", k.rsa)},
		{"payload null", codeMalformed, sign(t, h, nil, k.rsa)},
		{"payload a list", codeMalformed, sign(t, h, []string{"x"}, k.rsa)},
		{"a claim twice", codeMalformed, rawToken(t, `{"alg":"RS256","typ":"JWT","kid":"rsa"}`, `{"iss":"`+trustedIssuer+`","iss":"x"}`)},
		{"a header twice", codeMalformed, rawToken(t, `{"alg":"none","alg":"RS256","typ":"JWT","kid":"rsa"}`, `{}`)},
		// algorithm
		{"none", codeAlgorithm, sign(t, h.with(fields{"alg": "none"}), c, []byte{})},
		{"nOnE", codeAlgorithm, sign(t, h.with(fields{"alg": "nOnE"}), c, []byte{})},
		{"no algorithm", codeAlgorithm, header(fields{"alg": nil})},
		{"an empty algorithm", codeAlgorithm, header(fields{"alg": ""})},
		{"HS256 with the public key as PEM", codeAlgorithm, hs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
		{"HS256 with the public key as DER", codeAlgorithm, hs(der)},
		{"HS256 with an empty secret", codeAlgorithm, hs(nil)},
		{"RS384", codeAlgorithm, header(fields{"alg": "RS384"})},
		{"RS1", codeAlgorithm, header(fields{"alg": "RS1"})},
		{"algorithm in lower case", codeAlgorithm, header(fields{"alg": "rs256"})},
		{"ES256 said of an RSA key", codeAlgorithm, header(fields{"alg": "ES256"})},
		{"RS256 said of a P-256 key", codeAlgorithm, header(fields{"kid": "ec"})},
		{"EdDSA said of an RSA key", codeAlgorithm, header(fields{"alg": "EdDSA"})},
		{"RS256 with a key for PS256", codeAlgorithm, header(fields{"kid": "ps only"})},
		// type and critical headers
		{"no type", codeType, header(fields{"typ": nil})},
		{"another type", codeType, header(fields{"typ": "logout+jwt"})},
		{"a type that is no text", codeType, header(fields{"typ": 7})},
		{"critical exp", codeCritical, header(fields{"crit": []string{"exp"}, "exp": 1})},
		{"critical b64", codeCritical, header(fields{"crit": []string{"b64"}, "b64": false})},
		{"critical nothing", codeCritical, header(fields{"crit": []string{}})},
		{"b64 that is not critical", codeCritical, header(fields{"b64": true})},
		// keys
		{"no key id", codeKey, header(fields{"kid": nil})},
		{"an empty key id", codeKey, header(fields{"kid": ""})},
		{"an unknown key id", codeKey, header(fields{"kid": "new"})},
		{"the id in another case", codeKey, header(fields{"kid": "RSA"})},
		{"the id with a path", codeKey, header(fields{"kid": "../../rsa"})},
		{"the id as SQL", codeKey, header(fields{"kid": "x' UNION SELECT 'rsa"})},
		{"its own key", codeSignature, sign(t, h.with(own), c, k.otherRSA)},
		{"its own key and id", codeKey, sign(t, h.with(own).with(fields{"kid": "own"}), c, k.otherRSA)},
		{"its own key set", codeSignature, sign(t, h.with(fields{"jku": "https://evil.example/jwks"}), c, k.otherRSA)},
		{"its own certificate's address", codeSignature, sign(t, h.with(fields{"x5u": "https://evil.example/cert"}), c, k.otherRSA)},
		// signature
		{"no signature", codeSignature, parts[0] + "." + parts[1] + "."},
		{"a short signature", codeSignature, parts[0] + "." + parts[1] + ".AAAA"},
		{"another key's signature", codeSignature, sign(t, h, c, k.otherRSA)},
		{"another payload", codeSignature, parts[0] + "." + encode(t, c.with(fields{"tenant": "other"})) + "." + parts[2]},
		{"another header", codeSignature, encode(t, h.with(fields{"x": 1})) + "." + parts[1] + "." + parts[2]},
		{"zeros for ES256 (psychic signature)", codeSignature, sign(t, h.with(fields{"alg": "ES256", "kid": "ec"}), c, make([]byte, 64))},
		{"ES256 as ASN.1", codeSignature, sign(t, h.with(fields{"alg": "ES256", "kid": "ec"}), c, asn1Signature(t, h, c))},
		{"EdDSA of zeros", codeSignature, sign(t, h.with(fields{"alg": "EdDSA", "kid": "ed"}), c, make([]byte, 64))},
		// issuer and audience
		{"another issuer", codeIssuer, payload(fields{"iss": "https://evil.example"})},
		{"no issuer", codeIssuer, payload(fields{"iss": nil})},
		{"an issuer with a slash more", codeIssuer, payload(fields{"iss": trustedIssuer + "/"})},
		{"an issuer in a list", codeClaims, payload(fields{"iss": []string{trustedIssuer}})},
		{"another audience", codeAudience, payload(fields{"aud": "other"})},
		{"no audience", codeAudience, payload(fields{"aud": nil})},
		{"an audience that only starts alike", codeAudience, payload(fields{"aud": audience + ".evil"})},
		{"audiences in one text", codeAudience, payload(fields{"aud": "other " + audience})},
		{"an audience that is an object", codeClaims, payload(fields{"aud": fields{audience: true}})},
		// times
		{"expired", codeExpired, payload(fields{"exp": at(-30 * time.Second)})},
		{"long expired", codeExpired, payload(fields{"exp": 0})},
		{"no expiry", codeClaims, payload(fields{"exp": nil})},
		{"expiry as text", codeClaims, payload(fields{"exp": "9999999999"})},
		{"expiry beyond all time", codeClaims, payload(fields{"exp": 1e300})},
		{"negative expiry", codeClaims, payload(fields{"exp": -1})},
		{"expiry null", codeClaims, rawToken(t, `{"alg":"RS256","typ":"JWT","kid":"rsa"}`, `{"iss":"`+trustedIssuer+`","exp":null}`)},
		{"not yet", codeTooEarly, payload(fields{"nbf": at(31 * time.Second)})},
		{"issued in the future", codeTooEarly, payload(fields{"iat": at(31 * time.Second)})},
		{"nbf as text", codeClaims, payload(fields{"nbf": "0"})},
		// who
		{"no subject", codeClaims, payload(fields{"sub": nil})},
		{"an empty subject", codeClaims, payload(fields{"sub": ""})},
		{"a subject that is a number", codeClaims, payload(fields{"sub": 1})},
		{"no tenant", codeTenant, payload(fields{"tenant": nil})},
		{"an empty tenant", codeTenant, payload(fields{"tenant": ""})},
		{"a tenant that is a path", codeTenant, payload(fields{"tenant": "../acme"})},
		{"two tenants", codeTenant, payload(fields{"tenant": []string{"acme", "other"}})},
		{"the claim in another case", codeTenant, payload(fields{"tenant": nil, "Tenant": "acme"})},
		{"roles as an object", codeClaims, payload(fields{"roles": fields{"admin": true}})},
		{"scope as a number", codeClaims, payload(fields{"scope": 1})},
	}
}

func rawToken(t testing.TB, header, payload string) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(t, nil, input, testKeys().rsa))
}

func asn1Signature(t testing.TB, h, c fields) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(encode(t, h.with(fields{"alg": "ES256", "kid": "ec"})) + "." + encode(t, c)))
	sig, err := testKeys().ec.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestBadTokensAreRefused(t *testing.T) {
	v := testVerifier(t, testIssuer(t))
	if _, err := v.Verify(t.Context(), goodToken(t)); err != nil {
		t.Fatalf("not even a good one is accepted: %v", err)
	}
	tokens := badTokens(t)
	if len(tokens) < 30 {
		t.Fatalf("%d tokens", len(tokens))
	}
	texts := map[string]bool{}
	for _, b := range tokens {
		p, err := v.Verify(t.Context(), b.token)
		if p != nil || !fault.Is(err, fault.Unauthenticated) || fault.CodeOf(err) != b.code {
			t.Errorf("%s: %v, %s: %v, expected %s", b.name, p, fault.CodeOf(err), err, b.code)
			continue
		}
		texts[fault.Of(err).Text()] = true
	}
	if len(texts) != 1 {
		t.Errorf("clients are told which check failed: %v", texts)
	}
}

func FuzzVerify(f *testing.F) {
	v := testVerifier(f, testIssuer(f))
	for _, b := range badTokens(f) {
		if len(b.token) < 4096 {
			f.Add(b.token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := v.Verify(t.Context(), token); err == nil || p != nil || !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v, %v", token, p, err)
		}
	})
}

// The payload is decoded before its signature is checked, because it names the
// issuer: whatever it holds, its dates are dates and nothing panics.
func FuzzClaims(f *testing.F) {
	v := testVerifier(f, testIssuer(f))
	issuer := v.issuers[trustedIssuer]
	for _, seed := range []string{
		`{"iss":"x","aud":["a"],"sub":"s","exp":1700000300,"tenant":"acme","roles":["operator"],"scope":"jobs:read"}`,
		`{"exp":1e400,"nbf":-0.5,"aud":null}`, `{"realm_access":{"roles":7}}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := decodeClaims(raw)
		if err != nil {
			return
		}
		for _, d := range []time.Time{c.expires, c.notBefore, c.issuedAt} {
			if !d.IsZero() && (d.Unix() < 0 || d.UTC().Year() > 9999) {
				t.Errorf("%q: date %s", raw, d)
			}
		}
		p, err := v.principal(issuer, c)
		if err == nil && (access.CheckTenant(p.Tenant) != nil || !p.Permissions.Within(v.roles.Granted(p.Roles))) {
			t.Errorf("%q: %+v", raw, p)
		}
		if _, found := c.find("realm_access.roles"); found && len(c.all) == 0 {
			t.Errorf("%q: found in nothing", raw)
		}
	})
}
