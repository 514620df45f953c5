package identity

import (
	"context"
	"errors"
	"io"
	"os"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/apikey"
	"sluice/internal/platform/identity/secret"
)

// Bootstrap is the first start of an installation with authentication: nobody
// could come in to make the first key, so the program makes it.
type Bootstrap struct {
	// Count returns how many keys there are, revoked ones included: an
	// installation whose keys are all revoked is not a new one.
	Count func(ctx context.Context) (int, error)
	// Create stores the first key. Of several nodes that start at once one wins,
	// the others get fault.Conflict.
	Create func(ctx context.Context, key apikey.Key) error
	// Random makes the key: crypto/rand.Reader.
	Random io.Reader
	// File is where the secret is written, for its owner only (0600), before the
	// key is stored; empty writes none. A file that exists is never replaced.
	File string
}

// Run makes the first key where there is none. It returns the key, whose secret
// the caller shows once, and whether it was made.
func (b Bootstrap) Run(ctx context.Context) (key apikey.Key, made bool, err error) {
	if n, err := b.Count(ctx); err != nil || n > 0 {
		return apikey.Key{}, false, err
	}
	if key, err = apikey.Generate(b.Random); err != nil {
		return apikey.Key{}, false, err
	}
	// The file goes first: a key that is stored but whose secret got lost would
	// lock everybody out.
	if b.File != "" {
		if err := writeSecret(b.File, key.Secret); err != nil {
			return apikey.Key{}, false, err
		}
	}
	if err := b.Create(ctx, key); err != nil {
		if b.File != "" && !fault.Is(err, fault.Internal) && !fault.Of(err).Kind.Retryable() {
			// It is certain that the key was not stored, so its file misleads.
			err = errors.Join(err, os.Remove(b.File))
		}
		if fault.Is(err, fault.Conflict) {
			err = nil // another node made it, and shows it
		}
		return apikey.Key{}, false, err
	}
	return key, true, nil
}

func writeSecret(path string, s secret.Text) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "the file for the first API key cannot be made: remove it if it is of an earlier start").
			WithCode("bootstrap_file")
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if _, err := io.WriteString(f, s.Reveal()+"\n"); err != nil {
		return err
	}
	return f.Sync()
}
