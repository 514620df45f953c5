package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/modelsign"
	"sluice/internal/inference/registry"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
)

// signatures decides by their signatures which versions may be served.
type signatures struct {
	trust   *modelsign.Trust
	require bool // else it only warns
	log     *slog.Logger
}

// newSignatures returns what the configuration asks for; nil where it asks for none.
func newSignatures(cfg config.Model, log *slog.Logger) (*signatures, error) {
	if cfg.Signatures == "off" {
		return nil, nil //nolint:nilnil // there is nothing to verify
	}
	var pems [][]byte
	for _, name := range cfg.SignatureKeys {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "model.signature_keys: %s cannot be read", name)
		}
		pems = append(pems, data)
	}
	trust, err := modelsign.NewTrust(time.Now, pems...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "model.signature_keys: %s", fault.Of(err).Message)
	}
	return &signatures{trust, cfg.Signatures == "require", log}, nil
}

// verify implements registry.Verify: every file of a version counts.
func (s *signatures) verify(model string, registered time.Time, signature []byte, files map[string]string) error {
	return s.judge(model, s.trust.At(registered).Check(signature, files, func(string) bool { return true }))
}

func (s *signatures) judge(model string, err error) error {
	if err == nil || s.require {
		return err
	}
	s.log.Warn("a model version is not signed as it should be, and is taken all the same", "model", model, "code", fault.CodeOf(err), "error", err)
	return nil
}

// Verify returns what refuses versions of the registry by their signatures; nil
// where nothing does.
func (m *Models) Verify() registry.Verify {
	if m.signatures == nil {
		return nil
	}
	return m.signatures.verify
}

// signedRepo is a repository whose versions have to be signed.
type signedRepo struct {
	*modelrepo.Repo
	signatures *signatures
}

// Read implements serve.Repository. The signature is about the files of the
// version's folder; of the model file it is what was read that counts.
func (r signedRepo) Read(ctx context.Context, e modelrepo.Entry, number int64) ([]byte, error) {
	data, err := r.Repo.Read(ctx, e, number)
	if err != nil {
		return nil, err
	}
	var file string
	for _, v := range e.Versions {
		if v.Number == number {
			file = v.Path
		}
	}
	var signature []byte
	digests := map[string]string{}
	if file != "" { // else it came with a request, which has no place for a signature
		if signature, digests, err = folder(ctx, filepath.Dir(file)); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		digests[filepath.Base(file)] = hex.EncodeToString(sum[:])
	}
	return data, r.signatures.judge(e.Name, r.signatures.trust.Check(signature, digests, func(name string) bool { return name == filepath.Base(file) }))
}

// maxSigned is how many files a version's folder may have where it is to be signed.
const maxSigned = 1000

// folder returns the signature in a folder, nil for none, and the SHA-256 of its
// files by their paths.
func folder(ctx context.Context, dir string) (signature []byte, digests map[string]string, err error) {
	digests = map[string]string{}
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case len(digests) == maxSigned:
			return fault.New(fault.TooLarge, "a version's folder has more than %d files", maxSigned)
		case name == modelsign.Filename:
			signature, err = readSignature(filepath.Join(dir, name))
			return err
		}
		digests[path.Clean(name)], err = hash(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		return nil, nil, fault.Wrap(fault.Unavailable, err, "the files that a signature is about cannot be read")
	}
	return signature, digests, nil
}

// regular opens a regular file; a pipe would block.
func regular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "%s is not a regular file", filepath.Base(name))
	}
	return os.Open(name)
}

func readSignature(name string) ([]byte, error) {
	f, err := regular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, modelsign.MaxBytes+1))
}

func hash(name string) (string, error) {
	f, err := regular(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
