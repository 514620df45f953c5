package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/problem"
)

// Law: a time that is written is read as the same instant, to the millisecond,
// and texts sort as times do.
func TestTimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		at := func(name string) Time {
			zone := time.FixedZone("", rapid.IntRange(-12, 14).Draw(rt, "zone")*3600)
			return Time{time.UnixMilli(rapid.Int64Range(0, 253_402_300_799_999).Draw(rt, name)).In(zone)}
		}
		a, b := at("a"), at("b")
		ta, err := json.Marshal(a)
		if err != nil {
			rt.Fatal(err)
		}
		var back Time
		if err := json.Unmarshal(ta, &back); err != nil || !back.Equal(a.Time) {
			rt.Fatalf("%s is read as %v, %v", ta, back, err)
		}
		tb, _ := b.MarshalJSON()
		if bytes.Compare(ta, tb) != a.Compare(b.Time) {
			rt.Fatalf("%s and %s sort otherwise", ta, tb)
		}
	})
}

func TestTimeRefusesOtherForms(t *testing.T) {
	for _, text := range []string{`"yesterday"`, `1`, `null`, `""`, `"`, `"2026-01-02"`} {
		var at Time
		if err := at.UnmarshalJSON([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s gives %v", text, err)
		}
	}
	var at Time
	if err := at.UnmarshalText([]byte("2026-01-02T03:04:05.6789+02:00")); err != nil || at.String() != "2026-01-02 01:04:05.678 +0000 UTC" {
		t.Errorf("read %v, %v", at, err)
	}
}

func TestPages(t *testing.T) {
	last, _ := json.Marshal(NewPage[int](nil, ""))
	more, _ := json.Marshal(NewPage([]int{1}, "c"))
	if string(last) != `{"data":[],"has_more":false}` || string(more) != `{"data":[1],"next_cursor":"c","has_more":true}` {
		t.Errorf("%s, %s", last, more)
	}
}

func FuzzPointer(f *testing.F) {
	for _, s := range []string{"body", "body.a[3].b", "body[0]", "query.x", "body.a/b~c.é", "", ".", "[", "body.[]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, steps := split(s)
		p := problem.Fragment(pointer(steps))
		if p[0] != '#' || strings.ContainsAny(p, " \"<>\n\x00") || len(steps) > 0 && p == "#" {
			t.Errorf("%q gives %q", s, p)
		}
	})
}

func FuzzSyntax(f *testing.F) {
	for _, s := range []string{"", "{", "[1,\n2,\n]", "\n\n\n}", `{"a":1}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, bad := syntax(s)
		if bad == json.Valid([]byte(s)) || bad && (d.Line < 1 || d.Line > 1+strings.Count(s, "\n")) {
			t.Errorf("%q gives %+v, %v", s, d, bad)
		}
	})
}
