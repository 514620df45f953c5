package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"sluice/internal/platform/fault"
)

// algorithm is the signature type of a key (C2SP signed-note).
type algorithm byte

const (
	signs   algorithm = 0x01 // Ed25519 over the note
	cosigns algorithm = 0x04 // cosignature/v1: Ed25519 over the time and the note
)

// PublicKey checks signatures of a log or a witness. Its text form is the
// verifier key of C2SP signed-note: name+id+key.
type PublicKey struct {
	name      string
	algorithm algorithm
	key       string // 32 bytes
}

// ParsePublicKey reads the form that String returns.
func ParsePublicKey(text string) (PublicKey, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), "+")
	id, encoded, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return PublicKey{}, invalidKey("public key is not of the form name+id+key with an Ed25519 key")
	}
	k := PublicKey{name, algorithm(raw[0]), string(raw[1:])}
	return k, k.check(id)
}

func (k PublicKey) check(id string) error {
	switch {
	case !validName(k.name):
		return invalidKey("name %q of the key is empty, or has spaces or +", k.name)
	case k.algorithm != signs && k.algorithm != cosigns:
		return invalidKey("key is of the signature type %d, expected 1 (log) or 4 (witness)", k.algorithm)
	case id != k.id():
		return invalidKey("id of the key is %q, but its content gives %s", id, k.id())
	}
	return nil
}

// Name returns the origin of the log, or the name of the witness.
func (k PublicKey) Name() string { return k.name }

// KeyHash returns the id that signatures carry.
func (k PublicKey) KeyHash() uint32 {
	sum := sha256.Sum256([]byte(k.name + "\n" + string([]byte{byte(k.algorithm)}) + k.key))
	return binary.BigEndian.Uint32(sum[:])
}

func (k PublicKey) id() string { return fmt.Sprintf("%08x", k.KeyHash()) }

// Verify reports whether sig signs the text of a note.
func (k PublicKey) Verify(text, sig []byte) bool {
	if k.algorithm == cosigns {
		if len(sig) != 8+ed25519.SignatureSize || binary.BigEndian.Uint64(sig) > math.MaxInt64 {
			return false
		}
		text, sig = cosigned(binary.BigEndian.Uint64(sig), text), sig[8:]
	}
	return ed25519.Verify(ed25519.PublicKey(k.key), text, sig)
}

// cosigned is the message of a cosignature/v1.
func cosigned(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

// String returns the verifier key.
func (k PublicKey) String() string {
	raw := append([]byte{byte(k.algorithm)}, k.key...)
	return k.name + "+" + k.id() + "+" + base64.StdEncoding.EncodeToString(raw)
}

// Key is a private key. Printed or logged it shows its public half only.
type Key struct {
	PublicKey
	private ed25519.PrivateKey
}

// NewKey makes the key of a log. The origin identifies the log for ever; it
// should be a URL without its scheme, such as example.com/audit, and has no
// spaces and no plus. rand is crypto/rand.Reader.
func NewKey(rand io.Reader, origin string) (Key, error) { return newKey(rand, origin, signs) }

// NewWitnessKey makes the key of a witness.
func NewWitnessKey(rand io.Reader, name string) (Key, error) { return newKey(rand, name, cosigns) }

func newKey(rand io.Reader, name string, a algorithm) (Key, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return Key{}, fmt.Errorf("make a key: %w", err)
	}
	k := keyOf(name, a, seed)
	return k, k.check(k.id())
}

func keyOf(name string, a algorithm, seed []byte) Key {
	private := ed25519.NewKeyFromSeed(seed)
	return Key{PublicKey{name, a, string(private[ed25519.SeedSize:])}, private}
}

// Public returns the half that is no secret.
func (k Key) Public() PublicKey { return k.PublicKey }

// GoString keeps the private half out of %#v.
func (k Key) GoString() string { return k.String() }

// Private returns the key in the form that ParseKey reads. It is a secret.
func (k Key) Private() string {
	raw := append([]byte{byte(k.algorithm)}, k.private.Seed()...)
	return "PRIVATE+KEY+" + k.name + "+" + k.id() + "+" + base64.StdEncoding.EncodeToString(raw)
}

// ParseKey reads a private key in the form of golang.org/x/mod/sumdb/note.
func ParseKey(text string) (Key, error) {
	part := strings.SplitN(strings.TrimSpace(text), "+", 5)
	if len(part) != 5 || part[0] != "PRIVATE" || part[1] != "KEY" {
		return Key{}, invalidKey("private key is not of the form PRIVATE+KEY+name+id+key")
	}
	raw, err := base64.StdEncoding.DecodeString(part[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return Key{}, invalidKey("private key of %s is damaged", part[2])
	}
	k := keyOf(part[2], algorithm(raw[0]), raw[1:])
	return k, k.check(part[3])
}

// KeyFile reads the log's key from a file. Where there is none it makes a key
// for the origin, and the file, readable for its owner only.
func KeyFile(rand io.Reader, path, origin string) (Key, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return keyFor(string(text), path, origin)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Key{}, fmt.Errorf("key of the audit log: %w", err)
	}
	k, err := NewKey(rand, origin)
	if err != nil {
		return Key{}, err
	}
	if err := writeSecret(path, k.Private()+"\n"); err != nil {
		return Key{}, fmt.Errorf("key of the audit log: %w", err)
	}
	return k, nil
}

func keyFor(text, path, origin string) (Key, error) {
	k, err := ParseKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	if k.name != origin {
		return Key{}, invalidKey("%s holds the key of %s, expected %s: the origin of a log never changes", path, k.name, origin)
	}
	return k, nil
}

// writeSecret makes a new file, durable before its name appears.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // linked to its name by then, or of no use
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a key that another process made.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// signer signs notes with a key at a time, which only cosignatures carry.
type signer struct {
	Key
	at time.Time
}

// Sign implements note.Signer.
func (s signer) Sign(text []byte) ([]byte, error) {
	if s.private == nil {
		return nil, errors.New("the key has no private half")
	}
	if s.algorithm != cosigns {
		return ed25519.Sign(s.private, text), nil
	}
	seconds := uint64(max(s.at.Unix(), 0))
	sig := binary.BigEndian.AppendUint64(nil, seconds)
	return append(sig, ed25519.Sign(s.private, cosigned(seconds, text))...), nil
}

var (
	_ note.Signer   = signer{}
	_ note.Verifier = PublicKey{}
)

func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.Contains(name, "+") &&
		strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || r < ' ' }) < 0
}

func invalidKey(format string, args ...any) error {
	return fault.New(fault.Invalid, "audit: %s", fmt.Sprintf(format, args...)).WithCode("invalid_audit_key")
}
