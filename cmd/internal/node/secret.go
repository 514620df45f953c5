package node

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"

	"sluice/internal/platform/fault"
)

// secret is what the platform's own keys are derived from.
type secret [32]byte

// readSecret reads the secret from its file, or makes both where there is none.
func readSecret(path string) (s secret, err error) {
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(raw) != len(s) {
			return s, fault.New(fault.Invalid, "the secret file %s does not hold %d bytes as hexadecimal digits: restore it, for pseudonyms and commitments are made with it", path, len(s))
		}
		copy(s[:], raw)
		return s, nil
	case !errors.Is(err, fs.ErrNotExist):
		return s, fault.Wrap(fault.Internal, err, "the secret file %s cannot be read", path)
	}
	_, _ = rand.Read(s[:]) // never fails
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readSecret(path) // another process was first
	}
	if err != nil {
		return s, fault.Wrap(fault.Internal, err, "the secret file %s cannot be made", path)
	}
	_, err = f.WriteString(hex.EncodeToString(s[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return s, fault.Wrap(fault.Internal, errors.Join(err, os.Remove(path)), "the secret file %s cannot be written", path)
	}
	return s, nil
}

// derive returns the key for a purpose.
func (s secret) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, s[:], nil, "sluice "+purpose, 32)
	if err != nil {
		panic("node: " + err.Error()) // 32 bytes are always to be had
	}
	return key
}
