package node

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	if err := publish(path, []byte(hex.EncodeToString(s[:])+"\n")); errors.Is(err, fs.ErrExist) {
		return readSecret(path) // another process was first
	} else if err != nil {
		return s, fault.Wrap(fault.Internal, err, "the secret file %s cannot be made", path)
	}
	return s, nil
}

// publish makes a file that is whole from the moment on that it is there, and
// fails with fs.ErrExist where it was there before.
func publish(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

// derive returns the key for a purpose.
func (s secret) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, s[:], nil, "sluice "+purpose, 32)
	if err != nil {
		panic("node: " + err.Error()) // 32 bytes are always to be had
	}
	return key
}
