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
	"sluice/internal/platform/seal"
)

// secret is what the platform's own keys are derived from.
type secret [32]byte

// readSecret reads the secret from its file, or makes both where there is none.
func readSecret(path string) (s secret, err error) {
	text, err := readOrMake(path, func() string {
		_, _ = rand.Read(s[:]) // never fails
		return hex.EncodeToString(s[:]) + "\n"
	})
	if err != nil {
		return s, err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != len(s) {
		return s, fault.New(fault.Invalid, "the secret file %s does not hold %d bytes as hexadecimal digits: restore it, for pseudonyms and commitments are made with it", path, len(s))
	}
	copy(s[:], raw)
	return s, nil
}

// readSeals reads the keys that seal, or makes one where there is no file.
func readSeals(path string) (*seal.Ring, error) {
	text, err := readOrMake(path, seal.NewKey)
	if err != nil {
		return nil, err
	}
	r, err := seal.Parse(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the file of sealing keys %s cannot be used: %s", path, fault.Of(err).Message)
	}
	return r, nil
}

// readOrMake returns what is in a file of secrets, which is made where it is not
// there.
func readOrMake(path string, content func() string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made := []byte(content())
		switch err := publish(path, made); {
		case err == nil:
			return string(made), nil
		case !errors.Is(err, fs.ErrExist):
			return "", fault.Wrap(fault.Internal, err, "the secret file %s cannot be made", path)
		}
		text, err = os.ReadFile(path) // another process was first
	}
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "the secret file %s cannot be read", path)
	}
	return string(text), nil
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
