package models

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/modelsign"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
)

const vectors = "../../../internal/inference/modelsign/testdata/"

// signedBed is a repository with a version that the reference client has signed.
func signedBed(t *testing.T, policy string) (r signedRepo, dir string, log *bytes.Buffer) {
	t.Helper()
	dir, log = t.TempDir(), new(bytes.Buffer)
	version := filepath.Join(dir, "m", "1")
	if err := os.MkdirAll(version, 0o755); err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile(vectors + "reference-p256.sig")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"model.onnx": []byte("model"), "config.yaml": []byte("cfg"), "model.sig": signature} {
		if err := os.WriteFile(filepath.Join(version, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	repo, err := modelrepo.Open(dir, modelrepo.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSignatures(config.Model{Signatures: policy, SignatureKeys: []string{vectors + "reference-p256.pem"}}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return signedRepo{repo, s}, version, log
}

func (r signedRepo) load(t *testing.T) error {
	t.Helper()
	e, err := r.Find(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Read(t.Context(), e, 1)
	return err
}

// A version is read if it is what was signed, and refused or warned of otherwise.
func TestSignedVersions(t *testing.T) {
	for _, c := range []struct {
		change func(t *testing.T, dir string) error
		code   string
	}{
		{func(*testing.T, string) error { return nil }, ""},
		{func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/model.onnx", []byte("other"), 0o600) }, modelsign.CodeFiles},
		{func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/config.yaml", []byte("other"), 0o600) }, modelsign.CodeFiles},
		{func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/more", nil, 0o600) }, modelsign.CodeFiles},
		{func(_ *testing.T, dir string) error { return os.Remove(dir + "/config.yaml") }, modelsign.CodeFiles},
		{func(_ *testing.T, dir string) error { return os.Remove(dir + "/model.sig") }, modelsign.CodeMissing},
		{func(_ *testing.T, dir string) error { return os.WriteFile(dir+"/model.sig", []byte("{}"), 0o600) }, modelsign.CodeUnsupported},
	} {
		for _, policy := range []string{"require", "warn"} {
			r, dir, log := signedBed(t, policy)
			if err := c.change(t, dir); err != nil {
				t.Fatal(err)
			}
			err := r.load(t)
			switch {
			case policy == "require" && fault.CodeOf(err) != c.code:
				t.Errorf("%v, want %q", err, c.code)
			case policy == "warn" && (err != nil || strings.Contains(log.String(), "level=WARN") != (c.code != "")):
				t.Errorf("warning of %q: %v, %s", c.code, err, log)
			}
		}
	}
}

// Adding a signature is a change that a node which polls sees.
func TestSignatureIsPartOfTheFingerprint(t *testing.T) {
	r, dir, _ := signedBed(t, "require")
	before, _ := r.Find(t.Context(), "m")
	if err := os.Remove(dir + "/model.sig"); err != nil {
		t.Fatal(err)
	}
	if after, _ := r.Find(t.Context(), "m"); after.Fingerprint == before.Fingerprint {
		t.Error("it is the same")
	}
}

func TestSignaturesNeedKeys(t *testing.T) {
	for _, keys := range [][]string{nil, {"/does/not/exist"}, {vectors + "README.md"}} {
		if _, err := newSignatures(config.Model{Signatures: "require", SignatureKeys: keys}, slog.Default()); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "model.signature_keys") {
			t.Errorf("%v: %v", keys, err)
		}
	}
	if s, err := newSignatures(config.Model{Signatures: "off"}, slog.Default()); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}
