package modelsign_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/modelsign"
	"sluice/internal/platform/fault"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func trust(t testing.TB, pems ...[]byte) *modelsign.Trust {
	t.Helper()
	tr, err := modelsign.NewTrust(func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }, pems...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func all(string) bool { return true }

func digest(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// The vectors of the specification and those of its reference implementation.
func TestPublicVectors(t *testing.T) {
	key, ca := file(t, "key.pem"), file(t, "ca.pem")
	files := map[string]string{
		"signme-1": "bc9a717db6064a32cbe9eae6fc40651dd6d36ef1757183f590eff2b1765d7ebc",
		"signme-2": "32dcb1f8e1ae52d5963e56a6ba06ab58b424c15ed2a6b70d2feca1d089370028",
	}
	other := map[string]string{"signme-1": "f6310066c7320497ea554260c32c43660bff648cb2a61194832cc086077085e1", "signme-2": files["signme-2"]}
	for name, want := range map[string]string{
		"valid-key.json": "", "valid-certificate.json": "", "v1.0.1-elliptic-key.sig": "", "v1.0.1-certificate.sig": "",
		"v1.1.0-elliptic-key.sig": "", "v1.1.0-certificate.sig": "",
		"valid-sigstore.json":                        modelsign.CodeUnsupported,
		"invalid-empty.json":                         modelsign.CodeInvalid,
		"invalid-missing-envelope.json":              modelsign.CodeInvalid,
		"invalid-missing-verification-material.json": modelsign.CodeInvalid,
		"invalid-payload-wrong-predicate.json":       modelsign.CodeUntrusted, // its payload is not what was signed
	} {
		mine := files
		if strings.HasPrefix(name, "v1") && strings.Contains(name, "certificate") {
			mine = other
		}
		if err := trust(t, key, ca).Check(file(t, name), mine, all); fault.CodeOf(err) != want {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// What the reference client signs verifies, on other curves, too.
func TestReferenceClient(t *testing.T) {
	files := map[string]string{"model.onnx": digest("model"), "config.yaml": digest("cfg"), modelsign.Filename: "whatever"}
	for _, curve := range []string{"p256", "p521"} {
		if err := trust(t, file(t, "reference-"+curve+".pem")).Check(file(t, "reference-"+curve+".sig"), files, all); err != nil {
			t.Errorf("%s: %v", curve, err)
		}
	}
}

// signer signs statements as the format says, or as a test wants it.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

func (s signer) pem() []byte {
	der, _ := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (s signer) sign(statement string) []byte {
	const kind = "application/vnd.in-toto+json"
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement))
	sig, _ := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	return fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},
		"dsseEnvelope":{"payloadType":%q,"payload":%q,"signatures":[{"sig":%q}]}}`, kind, base64.StdEncoding.EncodeToString([]byte(statement)), base64.StdEncoding.EncodeToString(sig))
}

// statement lists files as name, digest pairs.
func statement(serialization string, pairs ...string) string {
	var resources []string
	for i := 0; i < len(pairs); i += 2 {
		name, _ := json.Marshal(pairs[i])
		resources = append(resources, fmt.Sprintf(`{"name":%s,"digest":%q,"algorithm":"sha256"}`, name, pairs[i+1]))
	}
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"m","digest":{"sha256":"00"}}],"predicateType":"https://model_signing/signature/v1.0",
		"predicate":{"resources":[` + strings.Join(resources, ",") + `],"serialization":` + serialization + `}}`
}

const plain = `{"method":"files","hash_type":"sha256","allow_symlinks":false,"ignore_paths":["notes","model.sig"]}`

// Everything that is not exactly what was signed by who is trusted is refused, with
// the reason.
func TestRefusals(t *testing.T) {
	s := newSigner(t)
	a, b := digest("a"), digest("b")
	good := s.sign(statement(plain, "a", a, "d/b", b))
	files := map[string]string{"a": a, "d/b": b}
	for _, c := range []struct {
		why    string
		bundle []byte
		files  map[string]string
		code   string
		want   string
	}{
		{"good", good, files, "", ""},
		{"none", nil, files, modelsign.CodeMissing, "there is none"},
		{"another key", newSigner(t).sign(statement(plain, "a", a, "d/b", b)), files, modelsign.CodeUntrusted, "none of the 1 trusted keys"},
		{"tampered", good, map[string]string{"a": b, "d/b": b}, modelsign.CodeFiles, `file "a" is not what was signed`},
		{"missing", good, map[string]string{"a": a}, modelsign.CodeFiles, `file "d/b" is signed, but is not there`},
		{"extra", good, map[string]string{"a": a, "d/b": b, "c": a}, modelsign.CodeFiles, `file "c" is there, but is not signed`},
		{"ignored, but used", good, map[string]string{"a": a, "d/b": b, "notes": a}, modelsign.CodeFiles, `file "notes" is there`},
		{"ignored", good, map[string]string{"a": a, "d/b": b, "notes/x": a}, "", ""},
		{"only the name begins so", good, map[string]string{"a": a, "d/b": b, "notes2": a}, modelsign.CodeFiles, `file "notes2" is there`},
		{"digest", s.sign(statement(strings.Replace(plain, "sha256", "blake3", 1), "a", a)), files, modelsign.CodeUnsupported, `digests by "blake3"`},
		{"one digest", s.sign(strings.Replace(statement(plain, "a", a, "d/b", b), `"algorithm":"sha256"`, `"algorithm":"md5"`, 1)), files, modelsign.CodeUnsupported, `by "md5"`},
		{"short digest", s.sign(statement(plain, "a", a[:62])), files, modelsign.CodeInvalid, "64 lower-case"},
		{"shards", s.sign(statement(strings.Replace(plain, "files", "shards", 1), "a:0:5", a)), files, modelsign.CodeUnsupported, `the method "shards"`},
		{"nothing", s.sign(statement(plain)), nil, modelsign.CodeInvalid, "1 to 10000 files, got 0"},
		{"twice", s.sign(statement(plain, "a", a, "a", b)), files, modelsign.CodeInvalid, "twice, or out of order"},
		{"order", s.sign(statement(plain, "d/b", b, "a", a)), files, modelsign.CodeInvalid, "twice, or out of order"},
		{"predicate", s.sign(strings.Replace(statement(plain, "a", a), "signature/v1.0", "signature/v9", 1)), files, modelsign.CodeUnsupported, "about a model"},
		{"statement", s.sign(strings.Replace(statement(plain, "a", a), "Statement/v1", "Statement/v2", 1)), files, modelsign.CodeUnsupported, "in-toto statement v1"},
		{"globs", s.sign(statement(strings.Replace(plain, "notes", "*", 1), "a", a)), files, modelsign.CodeInvalid, `it ignores "*"`},
		{"old bundle", bytes.Replace(good, []byte("v0.3"), []byte("v0.1"), 1), files, modelsign.CodeUnsupported, "bundle v0.3"},
		{"other payload", bytes.Replace(good, []byte("in-toto+json"), []byte("in-toto+yaml"), 1), files, modelsign.CodeUnsupported, "in-toto statement"},
		{"large", append(good, bytes.Repeat([]byte(" "), modelsign.MaxBytes)...), files, modelsign.CodeInvalid, "at most"},
		{"no JSON", []byte("{"), files, modelsign.CodeInvalid, "no Sigstore bundle"},
	} {
		err := trust(t, s.pem()).Check(c.bundle, c.files, func(name string) bool { return name != "notes/x" })
		if fault.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s %q", c.why, err, c.code, c.want)
		}
	}
	for _, name := range []string{"", ".", "/a", "../a", "a/../b", "./a", "a//b", "a/", `a\b`, "a\x00"} {
		if err := trust(t, s.pem()).Check(s.sign(statement(plain, name, a)), map[string]string{name: a}, all); fault.CodeOf(err) != modelsign.CodeInvalid || !strings.Contains(err.Error(), "no path below") {
			t.Errorf("a file called %q: %v", name, err)
		}
	}
}

// A certificate counts while it is valid, and if an authority has issued it that is
// trusted.
func TestCertificates(t *testing.T) {
	bundle, files := file(t, "valid-certificate.json"), map[string]string{}
	late, err := modelsign.NewTrust(func() time.Time { return time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC) }, file(t, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for why, tr := range map[string]*modelsign.Trust{"expired": late, "another authority": trust(t, newSigner(t).pem())} {
		if err := tr.Check(bundle, files, all); fault.CodeOf(err) != modelsign.CodeUntrusted {
			t.Errorf("%s: %v", why, err)
		}
	}
	if err := late.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Check(bundle, files, all); fault.CodeOf(err) == modelsign.CodeUntrusted {
		t.Errorf("as it was then: %v", err)
	}
}

func TestTrustIsStrict(t *testing.T) {
	for why, data := range map[string]string{
		"nothing": "", "text": "no PEM", "a private key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"garbage": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "behind a key": string(newSigner(t).pem()) + "more",
	} {
		if _, err := modelsign.NewTrust(time.Now, []byte(data)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// No byte of a signature can be changed so that it holds for other files, and none
// makes the verifier fall over.
func FuzzCheck(f *testing.F) {
	key, ca := file(f, "key.pem"), file(f, "ca.pem")
	for _, name := range []string{"valid-key.json", "valid-certificate.json", "valid-sigstore.json"} {
		f.Add(file(f, name))
	}
	tr := trust(f, key, ca)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := tr.Check(data, map[string]string{"signme-1": digest("forged")}, all); err == nil {
			t.Error("a forged file was taken")
		}
	})
}
