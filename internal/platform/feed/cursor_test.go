package feed

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func TestCursorsSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Cursor{Epoch: rapid.StringMatching(`[a-z0-9]{1,32}`).Draw(rt, "epoch"), Seq: rapid.Uint64().Draw(rt, "seq")}
		if got, err := ParseCursor(c.String()); err != nil || got != c {
			rt.Errorf("%s became %s, %v", c, got, err)
		}
	})
	if e := EpochOf(time.Now()); !validEpoch(e) {
		t.Errorf("EpochOf makes %q", e)
	}
}

func FuzzParseStart(f *testing.F) {
	for _, s := range []string{"", "earliest", "k3x9-42", "evt_1", "k3x9-042", "-1", "a-", "a-18446744073709551616", "A-1", "a-1\n", "a--1", "a-+1", strings.Repeat("a", 33) + "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseStart(text)
		switch {
		case err != nil:
			if fault.CodeOf(err) != "cursor_malformed" || s.Oldest || !s.After.IsZero() {
				t.Errorf("%q: %v, %v", text, s, err)
			}
		case s.Event != "":
			if s.Event != text || s.Oldest || !s.After.IsZero() {
				t.Errorf("%q was read as %+v", text, s)
			}
		case text == "earliest" != s.Oldest, text != "" && !s.Oldest && s.After.String() != text, text == "" && !s.After.IsZero():
			t.Errorf("%q was read as %+v", text, s)
		}
	})
}
