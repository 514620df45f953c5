package jwt

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"io"
	"os"

	jose "github.com/go-jose/go-jose/v4"

	"sluice/internal/platform/fault"
)

// Source holds the public keys of an issuer: Static or Remote.
type Source interface {
	// key returns the key with exactly this id. fault.Unauthenticated with the
	// code "token_key_unknown" says that there is none, fault.Unavailable that it
	// cannot be known now.
	key(ctx context.Context, id string) (publicKey, error)
}

// publicKey is a key and the one algorithm that it may verify.
type publicKey struct {
	jose.JSONWebKey
	algorithm jose.SignatureAlgorithm // empty: any that suits the key, which RSA has two of
}

// keySet maps the ids of keys to the keys. An id is opaque: it is looked up, and
// never a path, an address or a number.
type keySet map[string]publicKey

// The bounds of a key set.
const (
	maxSetBytes = 256 << 10
	maxKeys     = 100
	minRSABits  = 2048
	maxRSABits  = 8192 // larger ones verify too slowly
)

// decodeKeys reads a JWK set (RFC 7517 section 5). Keys that cannot verify a
// token here are left out: those for encryption, without an id, of other types,
// symmetric or private ones, and RSA keys of unfit size. An empty set is right:
// an issuer says with it that none of its tokens counts any more.
func decodeKeys(raw []byte) (keySet, error) {
	var doc struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the key set is not JSON")
	}
	if doc.Keys == nil || len(*doc.Keys) > maxKeys {
		return nil, fault.New(fault.Invalid, `the key set has no "keys", or more than %d`, maxKeys)
	}
	set := make(keySet, len(*doc.Keys))
	for _, raw := range *doc.Keys {
		k, ok := decodeKey(raw)
		if !ok {
			continue
		}
		if _, twice := set[k.KeyID]; twice {
			return nil, fault.New(fault.Invalid, "the key set has two keys with the id %.80q: which one counts would be chance", k.KeyID)
		}
		set[k.KeyID] = k
	}
	return set, nil
}

func decodeKey(raw []byte) (publicKey, bool) {
	var k publicKey
	if err := k.JSONWebKey.UnmarshalJSON(raw); err != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" {
		return k, false
	}
	k.algorithm = jose.SignatureAlgorithm(k.Algorithm)
	var natural jose.SignatureAlgorithm // the only one of keys that have one
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		fits := k.algorithm == "" || k.algorithm == jose.RS256 || k.algorithm == jose.PS256
		return k, fits && bits >= minRSABits && bits <= maxRSABits
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return k, false
		}
		natural = jose.ES256
	case ed25519.PublicKey:
		natural = jose.EdDSA
	default:
		return k, false
	}
	if k.algorithm == "" {
		k.algorithm = natural
	}
	return k, k.algorithm == natural
}

// suits reports whether the key may verify a signature of the algorithm.
func (k publicKey) suits(alg jose.SignatureAlgorithm) bool {
	if k.algorithm != "" {
		return k.algorithm == alg
	}
	return alg == jose.RS256 || alg == jose.PS256
}

// Static is a key set that stays as it is.
type Static struct{ keys keySet }

// NewStatic reads a JWK set. fault.Invalid: it is malformed, or has no key that
// can verify a token.
func NewStatic(jwks []byte) (*Static, error) {
	keys, err := decodeKeys(jwks)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.Invalid, "the key set has no key that can verify a token: expected public RSA, P-256 or Ed25519 keys with a kid")
	}
	return &Static{keys}, nil
}

// NewStaticFile reads a JWK set from a file of at most 256 KiB.
func NewStaticFile(path string) (*Static, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the key set cannot be read")
	}
	defer f.Close()
	raw, err := readKeys(f)
	if err != nil {
		return nil, err
	}
	return NewStatic(raw)
}

func readKeys(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSetBytes+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the key set cannot be read")
	}
	if len(raw) > maxSetBytes {
		return nil, fault.New(fault.TooLarge, "the key set is larger than %d bytes", maxSetBytes)
	}
	return raw, nil
}

func (s *Static) key(_ context.Context, id string) (publicKey, error) { return s.keys.find(id) }

func (s keySet) find(id string) (publicKey, error) {
	if k, ok := s[id]; ok {
		return k, nil
	}
	return publicKey{}, refuse(codeKey, "no key with the id %.80q", id)
}
