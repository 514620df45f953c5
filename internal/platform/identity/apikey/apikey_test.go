package apikey

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/internal/platform/fault"
)

func generate(t testing.TB) Key {
	t.Helper()
	k, err := Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysHaveTheirForm(t *testing.T) {
	form := regexp.MustCompile(`^slc_live_[0-9A-Za-z]{30}_[0-9A-Za-z]{6}$`)
	seen := map[string]bool{}
	for range 1000 {
		k := generate(t)
		text := k.Secret.Reveal()
		if !form.MatchString(text) || len(text) != Length || seen[text] || !Looks(text) {
			t.Fatalf("key %q", text)
		}
		seen[text] = true
		h, err := Parse(text)
		if err != nil || !h.Equal(k.Hash) || h != sha256.Sum256([]byte(text)) {
			t.Fatalf("key %q: hash %s, %v", text, h, err)
		}
		if back, err := ParseHash(h.String()); err != nil || back != h {
			t.Fatalf("hash %s read as %s, %v", h, back, err)
		}
		if hint := strings.TrimSuffix(k.Hint, "…"); !strings.HasPrefix(text, hint) || len(hint) != len(Prefix)+4 {
			t.Fatalf("hint %q of %q", k.Hint, text)
		}
		if shown := fmt.Sprintf("%v %+v", k, k); strings.Contains(shown, text[hintLen:]) {
			t.Fatalf("a key was printed: %s", shown)
		}
	}
}

// The format is a promise to scanners and to keys already given out: this one
// was made on purpose, and must stay readable.
func TestFormatIsFixed(t *testing.T) {
	k, err := Generate(bytes.NewReader(make([]byte, 64)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "slc_live_000000000000000000000000000000_" + golden; k.Secret.Reveal() != want {
		t.Errorf("made %s, expected %s", k.Secret.Reveal(), want)
	}
}

// Computed with another implementation of CRC-32.
const golden = "4RJ6XM"

// Every character is equally likely: it stands for 4 of the 248 bytes used, and
// those above are thrown away.
func TestCharactersAreUnbiased(t *testing.T) {
	counts := map[byte]int{}
	for b := range 256 {
		k, err := Generate(bytes.NewReader(bytes.Repeat([]byte{byte(b)}, 64)))
		if b >= 248 {
			if err == nil {
				t.Errorf("byte %d was used", b)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		counts[k.Secret.Reveal()[len(Prefix)]]++
	}
	for c, n := range counts {
		if n != 4 {
			t.Errorf("%q stands for %d bytes", c, n)
		}
	}
	if len(counts) != 62 || generate(t).Secret.Equal(generate(t).Secret) {
		t.Errorf("%d characters of 62", len(counts))
	}
}

func TestNoRandomnessNoKey(t *testing.T) {
	for _, r := range []io.Reader{strings.NewReader("short"), iotest.ErrReader(io.ErrClosedPipe)} {
		if k, err := Generate(r); err == nil || !k.Secret.IsZero() {
			t.Errorf("key %v without randomness, %v", k, err)
		}
	}
}

// Any one character changed, and any two swapped, is found by the checksum.
func TestTyposAreRefused(t *testing.T) {
	text := generate(t).Secret.Reveal()
	for i := range text {
		for _, c := range digits + "_- \x00\xff" {
			if wrong := text[:i] + string(c) + text[i+1:]; wrong != text {
				mustRefuse(t, wrong)
			}
		}
		if i > 0 && text[i] != text[i-1] {
			mustRefuse(t, text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
		}
	}
	for _, wrong := range []string{"", text + "0", text[1:], text[:Length-1], " " + text, text + "\n", strings.ToUpper(text), strings.Repeat("a", 1<<20)} {
		mustRefuse(t, wrong)
	}
}

// The checksum proves nothing: a text that has it right must still be a key.
func TestOtherCharactersAreRefused(t *testing.T) {
	for _, c := range "_- \x00\n~" {
		text := Prefix + strings.Repeat("a", randomLen-1) + string(c)
		check := checksum([]byte(text))
		mustRefuse(t, text+"_"+string(check[:]))
	}
}

func mustRefuse(t *testing.T, text string) {
	t.Helper()
	if _, err := Parse(text); !fault.Is(err, fault.Unauthenticated) || fault.CodeOf(err) != "api_key_malformed" {
		t.Errorf("%.80q: %v", text, err)
	}
}

func TestHashesThatAreNone(t *testing.T) {
	for _, text := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64)} {
		if _, err := ParseHash(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	k := generate(f).Secret.Reveal()
	for _, seed := range []string{k, k[:20], "", Prefix, "slc_live__", strings.Repeat("_", Length)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := Parse(text)
		if err != nil {
			if h != (Hash{}) || err.Error() != errMalformed().Error() {
				t.Errorf("%q: %s, %v", text, h, err)
			}
			return
		}
		sum := checksum([]byte(text[:bodyLen]))
		if len(text) != Length || text[bodyLen+1:] != string(sum[:]) || h != sha256.Sum256([]byte(text)) {
			t.Errorf("%q was taken for a key", text)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := generate(b).Secret.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
