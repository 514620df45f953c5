package sqlite

import (
	"context"
	"errors"
	"fmt"
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

// Open opens, or makes, the file of an address, see Path, for one connection that writes and
// several that read, behind migrate, which brings it into the form that the program knows.
// Only the process's user may read the file.
func Open(ctx context.Context, address string, o Options, migrate func(*Conn) error) (*Conn, *Readers, error) {
	path, err := Path(address)
	if err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if err := Private(path); err != nil {
		return nil, nil, err
	}
	c, err := Writer(path, o)
	if err != nil {
		return nil, nil, err
	}
	if err := migrate(c); err != nil {
		return nil, nil, errors.Join(Translate(err), c.Close())
	}
	r, err := OpenReaders(path, o)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, r, nil
}

// Form brings a file into the form of a number, which it keeps, by a script that may be run
// again. What names the store, where a newer version of the program has written it.
func Form(c *Conn, what string, form int64, script string) error {
	have, err := c.One(New("PRAGMA user_version"))
	if err != nil {
		return err
	}
	if have > form {
		return fault.New(fault.Unsupported, "%s was written by a newer version of the program (form %d, this one knows %d): use that version", what, have, form).WithCode("store_too_new")
	}
	return c.Transaction(func() error { return c.Script(script + fmt.Sprintf("PRAGMA user_version = %d;", form)) })
}
