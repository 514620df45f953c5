// Package apikey makes API keys and reads them.
//
// A key is
//
//	slc_live_<30 random characters>_<6 characters of checksum>
//
// with characters 0-9, A-Z and a-z. The prefix lets scanners of source code find
// keys that got lost. The 30 characters hold 178 bits of randomness, so that a
// plain SHA-256 at rest cannot be searched through and needs no salt. The
// checksum, a CRC-32, tells a mistyped key from an unknown one before any store
// is asked; it proves nothing, since anybody can compute it.
package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash/crc32"
	"io"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

// Prefix is how every key starts.
const Prefix = "slc_live_"

const (
	digits    = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	randomLen = 30
	checkLen  = 6 // 62^6 > 2^32
	bodyLen   = len(Prefix) + randomLen
	hintLen   = len(Prefix) + 4

	// Length is the length of a key in bytes.
	Length = bodyLen + 1 + checkLen
)

// Key is a key at the one time that its secret is known.
type Key struct {
	Secret secret.Text // for its holder, shown once
	Hash   Hash        // for the store
	Hint   string      // its public beginning, by which people tell their keys apart
}

// Hash is what is kept of a key: its SHA-256.
type Hash [sha256.Size]byte

// String returns the hash in hex. It opens nothing, but logs do not need it.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String wrote.
func ParseHash(text string) (Hash, error) {
	var h Hash
	if len(text) != hex.EncodedLen(len(h)) {
		return h, fault.New(fault.Invalid, "the hash of an API key has %d hex digits, not %d", hex.EncodedLen(len(h)), len(text))
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return Hash{}, fault.Wrap(fault.Invalid, err, "the hash of an API key is not hex")
	}
	return h, nil
}

// Equal compares in constant time.
func (h Hash) Equal(o Hash) bool { return subtle.ConstantTimeCompare(h[:], o[:]) == 1 }

// Generate makes a new key of random bytes, which come from crypto/rand.Reader
// outside of tests.
func Generate(random io.Reader) (Key, error) {
	text := append(make([]byte, 0, Length), Prefix...)
	var pool [64]byte
	for len(text) < bodyLen {
		if _, err := io.ReadFull(random, pool[:]); err != nil {
			return Key{}, fault.Wrap(fault.Internal, err, "no randomness for an API key")
		}
		for _, b := range pool {
			// 248 is the largest multiple of 62: bytes above it would make some
			// characters likelier than others.
			if b < 248 && len(text) < bodyLen {
				text = append(text, digits[b%62])
			}
		}
	}
	check := checksum(text)
	text = append(append(text, '_'), check[:]...)
	return Key{Secret: secret.Of(string(text)), Hash: sha256.Sum256(text), Hint: string(text[:hintLen]) + "…"}, nil
}

// Looks reports whether the text claims to be a key, right or wrong.
func Looks(text string) bool { return len(text) >= len(Prefix) && text[:len(Prefix)] == Prefix }

// Parse returns the hash of a key that is well formed. Everything else is
// fault.Unauthenticated with the code "api_key_malformed". It does not allocate
// where the key is well formed.
func Parse(text string) (Hash, error) {
	if len(text) != Length || !Looks(text) || text[bodyLen] != '_' {
		return Hash{}, errMalformed()
	}
	var b [Length]byte
	copy(b[:], text)
	for _, c := range b[len(Prefix):bodyLen] {
		if !isDigit(c) {
			return Hash{}, errMalformed()
		}
	}
	if checksum(b[:bodyLen]) != [checkLen]byte(b[bodyLen+1:]) {
		return Hash{}, errMalformed()
	}
	return sha256.Sum256(b[:]), nil
}

func isDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// checksum is the CRC-32 (IEEE) of b in base 62, the highest digit first.
func checksum(b []byte) (out [checkLen]byte) {
	sum := crc32.ChecksumIEEE(b)
	for i := checkLen - 1; i >= 0; i-- {
		out[i] = digits[sum%62]
		sum /= 62
	}
	return out
}

func errMalformed() error {
	return fault.New(fault.Unauthenticated, "the API key is malformed: expected %s followed by %d characters, as it was shown when it was made", Prefix, Length-len(Prefix)).
		WithCode("api_key_malformed")
}
