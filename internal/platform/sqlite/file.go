package sqlite

import (
	"errors"
	"os"
	"strings"

	"sluice/internal/platform/fault"
)

// Path returns the file of an address, which is a path or sqlite:path. One that
// names no file is fault.Invalid.
func Path(address string) (string, error) {
	path := strings.TrimPrefix(address, "sqlite:")
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.ContainsRune(path, 0) {
		return "", fault.New(fault.Invalid, "a store needs a file, got %q: expected sqlite:path", fault.Clip(address, 256)).WithCode("invalid_store_address")
	}
	return path, nil
}

// Private makes the file, if need be, such that others cannot read it; the files
// that SQLite puts beside it take over its mode.
func Private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Close())
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the store's file cannot be opened: it needs a folder that exists and may be written").WithCode("storage_failed")
	}
	return nil
}
