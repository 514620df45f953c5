package seal

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/identity/secret"
)

func ring(t rapid.TB, keys ...string) *Ring {
	r, err := Parse(strings.Join(keys, ""))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What was sealed comes back at its place, and nowhere else; nothing that was
// changed opens, and the sealed text holds nothing of it.
func TestSealedTexts(t *testing.T) {
	r := ring(t, NewKey())
	rapid.Check(t, func(rt *rapid.T) {
		text, place := rapid.String().Draw(rt, "text"), rapid.String().Draw(rt, "place")
		sealed := r.Seal(secret.Of(text), place)
		if got, err := r.Open(sealed, place); err != nil || got.Reveal() != text {
			rt.Fatalf("%q came back as %q, %v", text, got.Reveal(), err)
		}
		if len(text) > 8 && strings.Contains(sealed, text) || sealed == r.Seal(secret.Of(text), place) {
			rt.Fatalf("%q is sealed as %s", text, sealed)
		}
		if _, err := r.Open(sealed, place+"x"); fault.CodeOf(err) != "seal_broken" {
			rt.Fatalf("it opens at another place: %v", err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(rt, "byte")
		b := []byte(sealed)
		b[i] = rapid.SampledFrom([]byte("ABab01-_.~")).Filter(func(c byte) bool { return c != b[i] }).Draw(rt, "as")
		if got, err := r.Open(string(b), place); err == nil {
			rt.Fatalf("%s was changed to %s, and opens as %q", sealed, b, got.Reveal())
		}
		if got, err := r.Open(sealed[:i], place); err == nil {
			rt.Fatalf("%s was cut to %s, and opens as %q", sealed, sealed[:i], got.Reveal())
		}
	})
}

func TestRotation(t *testing.T) {
	first, second := NewKey(), NewKey()
	before, during, after := ring(t, first), ring(t, second, "# the one before\n", first), ring(t, second)
	old := before.Seal(secret.Of("x"), "p")
	if got, err := during.Open(old, "p"); err != nil || got.Reveal() != "x" || during.Current(old) {
		t.Errorf("%q, %v, current %t", got.Reveal(), err, during.Current(old))
	}
	fresh := during.Seal(secret.Of("x"), "p")
	if got, err := after.Open(fresh, "p"); err != nil || got.Reveal() != "x" || !after.Current(fresh) {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	if _, err := after.Open(old, "p"); fault.CodeOf(err) != "seal_key_unknown" {
		t.Error(err)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	good := NewKey()
	for _, text := range []string{"", "# nothing\n", good[1:], good + "x\n", good + good[:10], strings.Repeat(good, maxKeys+1)} {
		if _, err := Parse(text); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), good[:8]) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
