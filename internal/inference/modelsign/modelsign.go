// Package modelsign verifies signatures of models in the OpenSSF Model Signing
// format 1.0 (https://github.com/ossf/model-signing-spec): a Sigstore bundle v0.3 with
// a DSSE envelope around an in-toto statement, which lists the files of the model
// with their SHA-256.
//
// Signatures are made by a key, or by a certificate of an authority that is trusted.
// Keyless signatures of Sigstore, which need its transparency log, manifests of
// shards, and digests other than SHA-256 are refused by name.
package modelsign

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// Filename is what a signature is called, beside the files that it is about.
const Filename = "model.sig"

// MaxBytes is how large a signature may be.
const MaxBytes = 1 << 20

// The codes of problems. All are of kind fault.Unprocessable.
const (
	CodeMissing     = "signature_missing"     // there is none
	CodeInvalid     = "signature_invalid"     // it is malformed, or does not verify
	CodeUntrusted   = "signature_untrusted"   // nobody who is trusted has made it
	CodeFiles       = "signature_files"       // it is about other files
	CodeUnsupported = "signature_unsupported" // of a kind that is not verified here
)

func problem(code, format string, args ...any) *fault.Error {
	return fault.New(fault.Unprocessable, "signature: "+format, args...).WithCode(code)
}

// Trust is whose signatures count.
type Trust struct {
	keys  []*ecdsa.PublicKey
	roots *x509.CertPool
	now   func() time.Time
}

// At returns the same trust, with certificates as they are at a time.
func (t *Trust) At(at time.Time) *Trust {
	return &Trust{keys: t.keys, roots: t.roots, now: func() time.Time { return at }}
}

// NewTrust reads PEM: public keys on P-256, P-384 or P-521, and certificates of
// authorities. It fails with fault.Invalid where anything else is there, or nothing.
func NewTrust(now func() time.Time, files ...[]byte) (*Trust, error) {
	t := &Trust{roots: x509.NewCertPool(), now: now}
	n := 0
	for _, data := range files {
		for block, rest := pem.Decode(data); ; block, rest = pem.Decode(rest) {
			if block == nil {
				if text := strings.TrimSpace(string(rest)); text != "" {
					return nil, fault.New(fault.Invalid, "a file of trusted keys has something other than PEM in it: %.40q", text)
				}
				break
			}
			if err := t.add(block); err != nil {
				return nil, err
			}
			n++
		}
	}
	if n == 0 {
		return nil, fault.New(fault.Invalid, "signatures are to be verified, but no key and no authority is trusted")
	}
	return t, nil
}

func (t *Trust) add(block *pem.Block) error {
	switch block.Type {
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "a trusted key cannot be read")
		}
		ec, ok := key.(*ecdsa.PublicKey)
		if _, known := digestOf(ec); !ok || !known {
			return fault.New(fault.Invalid, "a trusted key must be one on P-256, P-384 or P-521")
		}
		t.keys = append(t.keys, ec)
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "a trusted certificate cannot be read")
		}
		t.roots.AddCert(c)
	default:
		return fault.New(fault.Invalid, "trusted keys are PEM blocks PUBLIC KEY and CERTIFICATE, got %.40q", block.Type)
	}
	return nil
}

// Check verifies a signature, nil for none, of these files: their names with "/"
// between folders, and their SHA-256 in hex. Of files that are not used, those that
// the signature leaves out by name may be there. It fails with one of the codes.
func (t *Trust) Check(bundle []byte, files map[string]string, used func(name string) bool) error {
	if bundle == nil {
		return problem(CodeMissing, "there is none: expected %s beside the model file, made by model_signing sign", Filename)
	}
	payload, err := t.open(bundle)
	if err != nil {
		return err
	}
	m, err := parseManifest(payload)
	if err != nil {
		return err
	}
	return m.match(files, used)
}

// match compares the manifest with the files that are there.
func (m *manifest) match(files map[string]string, used func(string) bool) error {
	var wrong []fault.Detail
	add := func(name, what string) {
		wrong = append(wrong, fault.Detail{Pointer: name, Code: CodeFiles, Message: what})
	}
	for _, r := range m.resources {
		switch digest, there := files[r.Name]; {
		case !there:
			add(r.Name, "is signed, but is not there")
		case digest != r.Digest:
			add(r.Name, "is not what was signed: its SHA-256 is "+digest+", not "+r.Digest)
		}
	}
	for name := range files {
		if name == Filename || m.has(name) || m.ignores(name) && !used(name) {
			continue
		}
		add(name, "is there, but is not signed")
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.SortFunc(wrong, func(a, b fault.Detail) int { return strings.Compare(a.Pointer, b.Pointer) })
	wrong = wrong[:min(len(wrong), 100)]
	return problem(CodeFiles, "file %.120q %s", wrong[0].Pointer, wrong[0].Message).WithDetails(wrong...)
}
