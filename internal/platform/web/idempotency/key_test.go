package idempotency

import (
	"strconv"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestParseKey(t *testing.T) {
	for line, want := range map[string]string{
		"k": "k", `"k"`: "k", " \tk ": "k", `"8e03978e-40d5-43e8-bc93-6894a57f9324"`: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`"a b,c;d"`: "a b,c;d", `"a\"b\\c"`: `a"b\c`, strings.Repeat("x", 255): strings.Repeat("x", 255),
	} {
		if got, err := ParseKey([]string{line}); got != want || err != nil {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{"", `""`, `"`, `"a`, `a"`, `"a"b`, `"a\x"`, `"\`, "a b", "a,b", "k;p=1", "é", "\x7f", "\"\t\"", strings.Repeat("x", 256), `"` + strings.Repeat("x", 256) + `"`} {
		if got, err := ParseKey([]string{line}); fault.CodeOf(err) != "idempotency_key_invalid" || got != "" {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	if got, err := ParseKey(nil); got != "" || err != nil {
		t.Errorf("none: %q, %v", got, err)
	}
	if _, err := ParseKey([]string{"a", "a"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("two: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"k", `"k"`, `"a\"b"`, `"`, `"\`, "é", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := ParseKey([]string{s})
		if err != nil {
			if !fault.Is(err, fault.Invalid) || key != "" {
				t.Errorf("%q: %q, %v", s, key, err)
			}
			return
		}
		if key == "" || len(key) > MaxKey {
			t.Errorf("%q gives a key of %d characters", s, len(key))
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, err := ParseKey([]string{quoted}); again != key || err != nil {
			t.Errorf("%s quoted, as %s, is %q, %v", strconv.Quote(key), quoted, again, err)
		}
	})
}
