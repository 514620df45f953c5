// Package seal encrypts what the store keeps and must not show, and which the
// platform has to use as it is, such as the secrets that sign webhooks.
//
// A sealed text names its key, so that keys can be rotated, and is bound to the
// place that it is for: copied to another, it does not open. The cipher is
// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose nonces may be random
// however much is sealed.
//
// Known limits: how long a text is can be seen; and who can write to the store
// can put back what it held at that place before.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// Ring seals with the first of its keys, and opens what any of them has sealed.
type Ring struct{ keys []key }

type key struct {
	id   string // says which it is, and nothing about it
	aead cipher.AEAD
}

// maxKeys bounds a ring: more is a file of something else.
const maxKeys = 16

// NewKey returns the text of a new key, one line of hexadecimal digits.
func NewKey() string {
	b := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b) + "\n"
}

// Parse reads keys, one a line, the one to seal with first. Errors are
// fault.Invalid and show nothing of what was read.
func Parse(text string) (*Ring, error) {
	r := &Ring{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil || len(b) != chacha20poly1305.KeySize || len(r.keys) == maxKeys {
			return nil, fault.New(fault.Invalid, "expected 1 to %d lines of %d hexadecimal digits each, the key to seal with first", maxKeys, 2*chacha20poly1305.KeySize).WithCode("seal_keys_invalid")
		}
		aead, err := chacha20poly1305.NewX(b)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a key cannot be used")
		}
		sum := sha256.Sum256(append([]byte("sluice seal key id "), b...))
		r.keys = append(r.keys, key{hex.EncodeToString(sum[:6]), aead})
	}
	if len(r.keys) == 0 {
		return nil, fault.New(fault.Invalid, "there is no key: restore it, or what it has sealed is lost").WithCode("seal_keys_invalid")
	}
	return r, nil
}

// Seal encrypts a text for a place, such as "webhook_endpoints/whk_1".
func (r *Ring) Seal(text secret.Text, place string) string {
	k := r.keys[0]
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+text.Len()+k.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return k.id + "." + base64.RawURLEncoding.EncodeToString(k.aead.Seal(nonce, nonce, []byte(text.Reveal()), []byte(place)))
}

// Open returns the text that was sealed for the place. Errors: fault.Internal with
// code "seal_key_unknown" where no key of the ring has sealed it, and
// "seal_broken" where it is not what was sealed for this place.
func (r *Ring) Open(sealed, place string) (secret.Text, error) {
	id, data, _ := strings.Cut(sealed, ".")
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return secret.Text{}, fault.New(fault.Internal, "it is sealed with the key %s, which this process does not have: add the key to its file", fault.Clip(id, 16)).WithCode("seal_key_unknown")
	}
	aead := r.keys[i].aead
	b, err := base64.RawURLEncoding.Strict().DecodeString(data)
	if err != nil || len(b) < aead.NonceSize() {
		return secret.Text{}, errBroken
	}
	text, err := aead.Open(nil, b[:aead.NonceSize()], b[aead.NonceSize():], []byte(place))
	if err != nil {
		return secret.Text{}, errBroken
	}
	return secret.Of(string(text)), nil
}

var errBroken error = fault.New(fault.Internal, "it is not what was sealed for this place").WithCode("seal_broken")

// Current reports whether the text is sealed with the key that Seal uses.
func (r *Ring) Current(sealed string) bool { return strings.HasPrefix(sealed, r.keys[0].id+".") }
