package audit

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sluice/internal/platform/fault"
)

// The log's keys are those of package note, in both directions.
func TestKeysAreThoseOfNote(t *testing.T) {
	k := newTestKey(t)
	theirs, err := note.NewSigner(k.Private())
	if err != nil {
		t.Fatal(err)
	}
	check, err := note.NewVerifier(k.String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := signNote(&note.Note{Text: "text\n"}, time.Time{}, k)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "text\n"}, theirs)
	if err != nil || !bytes.Equal(signed, ours) {
		t.Errorf("note signs %q, %v; the key %q", signed, err, ours)
	}
	if _, err := note.Open(ours, note.VerifierList(check)); err != nil {
		t.Error(err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseKey(skey)
	if err != nil || read.String() != vkey || read.Private() != skey {
		t.Errorf("a key of note is read as %s, %v; want %s", read, err, vkey)
	}
}

// c2sp.org/tlog-cosignature: what is signed, and the key's id.
func TestWitnessKey(t *testing.T) {
	w, err := NewWitnessKey(rand.Reader, "witness.example.com/w1")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("witness.example.com/w1\n\x04" + w.key))
	if w.KeyHash() != binary.BigEndian.Uint32(sum[:]) {
		t.Error("the key's id is not what the specification says")
	}
	want := "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	if got := cosigned(1679315147, []byte(want[strings.Index(want, "example"):])); string(got) != want {
		t.Errorf("signed is %q, want %q", got, want)
	}
	sig, err := signer{w, time.Unix(1679315147, 0)}.Sign([]byte("text\n"))
	if err != nil || binary.BigEndian.Uint64(sig) != 1679315147 || !w.Verify([]byte("text\n"), sig) {
		t.Errorf("signature %x does not verify (%v)", sig, err)
	}
	sig[7]++
	if w.Verify([]byte("text\n"), sig) {
		t.Error("a signature with another time verifies")
	}
	sig[0] = 0x80
	if w.Verify([]byte("text\n"), sig) || w.Verify([]byte("text\n"), sig[:60]) {
		t.Error("a time beyond 2^63-1 or a short signature verifies")
	}
	for _, text := range []string{w.Private(), w.Private() + "\n"} {
		if again, err := ParseKey(text); err != nil || again.Public() != w.Public() {
			t.Errorf("read again: %s, %v", again, err)
		}
	}
	if again, err := ParsePublicKey(w.String() + "\n"); err != nil || again != w.Public() {
		t.Errorf("public key read again: %s, %v", again, err)
	}
}

func TestMalformedKeys(t *testing.T) {
	k := newTestKey(t)
	for _, bad := range []string{"", "x", "a+b", k.Private(), strings.Replace(k.String(), origin, "other", 1), k.String()[:40],
		"two words+00000000+AQ==", strings.Replace(k.String(), "+A", "+B", 1)} {
		if _, err := ParsePublicKey(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("public key %q: error is %v", bad, err)
		}
	}
	for _, bad := range []string{"", "PRIVATE+KEY+x", k.String(), strings.Replace(k.Private(), origin, "other", 1), k.Private()[:60]} {
		if _, err := ParseKey(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("private key: error is %v", err)
		} else if seed := k.Private()[len(k.Private())-20:]; strings.Contains(err.Error(), seed) {
			t.Error("the message holds the key")
		}
	}
	for _, name := range []string{"", "two words", "a+b", "line\nbreak"} {
		if _, err := NewKey(rand.Reader, name); !fault.Is(err, fault.Invalid) {
			t.Errorf("key named %q: error is %v", name, err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	k := newTestKey(t)
	parts := strings.SplitN(k.Private(), "+", 5) // PRIVATE+KEY+name+id+key, which may have a + itself
	secret := parts[len(parts)-1]
	if len(parts) != 5 || len(secret) < 40 {
		t.Fatalf("a private key is written as %d parts", len(parts))
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k)
	fmt.Fprintf(&out, "%v %+v %s %#v", k, k, k, struct{ K Key }{k})
	raw, hex := fmt.Sprintf("%v", []byte(k.private[:8])), strings.TrimSuffix(fmt.Sprintf("%#v", []byte(k.private[:8])), "}")
	hex = strings.TrimPrefix(hex, "[]byte{")
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), strings.Trim(raw, "[]")) || strings.Contains(out.String(), hex) {
		t.Errorf("the private key is printed: %s", out.String())
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.key")
	k, err := KeyFile(rand.Reader, path, origin)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	again, err := KeyFile(rand.Reader, path, origin)
	if err != nil || again.Public() != k.Public() {
		t.Errorf("read again: %s, %v", again, err)
	}
	if _, err := KeyFile(rand.Reader, path, "example.com/other"); !fault.Is(err, fault.Invalid) {
		t.Errorf("for another origin: error is %v", err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := KeyFile(rand.Reader, path, origin); !fault.Is(err, fault.Invalid) {
		t.Errorf("damaged: error is %v", err)
	}
}
