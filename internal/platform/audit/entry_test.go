package audit

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// The bytes are hashed, and signed for ever: they must not change.
func TestEncodingIsFixed(t *testing.T) {
	e := entry(1)
	e.Time = time.Date(2026, 3, 1, 13, 0, 1, 999_999, time.FixedZone("", 3600))
	leaf, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"v":1,"id":"evt_00000001","time":"2026-03-01T12:00:01.000Z","tenant":"acme","actor":"usr_7","action":"api_key.rotate",` +
		`"kind":"api_key","resource":"key_42","outcome":"ok","code":"","request":"req_1","correlation":"01JNA",` +
		`"change":"hmac-sha256:a210c5e361d74c746baa8733b32260efa121a1c579a7361acbc08dd229daeea1"}`
	if string(leaf) != want {
		t.Errorf("got  %s\nwant %s", leaf, want)
	}
	if !json.Valid(leaf) {
		t.Error("the leaf is no JSON")
	}
}

// HMAC-SHA256, RFC 4231 test case 2.
func TestCommit(t *testing.T) {
	want := "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	if got := Commit([]byte("Jefe"), []byte("what do ya want for nothing?")); got != want {
		t.Errorf("Commit = %s, want %s", got, want)
	}
	if got := Commit([]byte("Jefe"), []byte("what do ya want "), []byte("for nothing?")); got != want {
		t.Errorf("Commit of two parts = %s, want %s", got, want)
	}
}

func identifiers(limit int) *rapid.Generator[string] {
	return rapid.StringMatching(`[a-zA-Z0-9._:/-]*`).Filter(func(s string) bool { return len(s) <= limit })
}

func entriesGenerator() *rapid.Generator[Entry] {
	return rapid.Custom(func(rt *rapid.T) Entry {
		required := identifiers(64).Filter(func(s string) bool { return s != "" })
		return Entry{
			ID:     required.Draw(rt, "id"),
			Time:   time.UnixMilli(rapid.Int64Range(-62135596800000, 253402300799999).Draw(rt, "ms")).UTC(),
			Tenant: identifiers(64).Draw(rt, "tenant"), Actor: identifiers(64).Draw(rt, "actor"),
			Action: required.Draw(rt, "action"),
			Kind:   identifiers(64).Draw(rt, "kind"), Resource: identifiers(128).Draw(rt, "resource"),
			Outcome: rapid.SampledFrom([]Outcome{OK, Denied, Failed}).Draw(rt, "outcome"),
			Code:    identifiers(64).Draw(rt, "code"), Request: identifiers(128).Draw(rt, "request"),
			Correlation: identifiers(128).Draw(rt, "correlation"),
			Change:      rapid.SampledFrom([]string{"", Commit(nil, nil)}).Draw(rt, "change"),
		}
	})
}

func TestDecodeInvertsEncode(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := entriesGenerator().Draw(rt, "entry")
		leaf, err := e.Encode()
		if err != nil {
			rt.Fatal(err)
		}
		got, err := Decode(leaf)
		if d := cmp.Diff(e, got); err != nil || d != "" {
			rt.Fatalf("%v %s", err, d)
		}
		if len(leaf) > 2048 {
			rt.Fatalf("the leaf has %d bytes", len(leaf))
		}
	})
}

func TestInvalidEntries(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"no id":               func(e *Entry) { e.ID = "" },
		"no action":           func(e *Entry) { e.Action = "" },
		"a mail address":      func(e *Entry) { e.Actor = "jane@example.com" },
		"a sentence":          func(e *Entry) { e.Resource = "what Jane said" },
		"a quote":             func(e *Entry) { e.Request = `a"b` },
		"a backslash":         func(e *Entry) { e.Request = `a\b` },
		"a letter not ASCII":  func(e *Entry) { e.Code = "für" },
		"a control character": func(e *Entry) { e.Tenant = "a\x00" },
		"too long":            func(e *Entry) { e.Kind = strings.Repeat("k", 65) },
		"no outcome":          func(e *Entry) { e.Outcome = "" },
		"another outcome":     func(e *Entry) { e.Outcome = "fine" },
		"a payload":           func(e *Entry) { e.Change = "payload" },
		"a digest cut off":    func(e *Entry) { e.Change = e.Change[:70] },
		"a digest in capital": func(e *Entry) { e.Change = "hmac-sha256:" + strings.Repeat("A", 64) },
		"the year 10000":      func(e *Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"before the year 1":   func(e *Entry) { e.Time = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := entry(1)
		change(&e)
		if err := e.Validate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error is %v, expected one of the kind invalid", name, err)
		}
		if strings.Contains(name, "mail") && strings.Contains(e.Validate().Error(), "jane") {
			t.Error("the message repeats what must not be logged")
		}
	}
}

// Everything but the one encoding is refused.
func TestDecodeIsStrict(t *testing.T) {
	leaf, err := entry(1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(leaf)
	for name, bad := range map[string]string{
		"empty":             "",
		"another version":   strings.Replace(good, `"v":1`, `"v":2`, 1),
		"version 10":        strings.Replace(good, `"v":1`, `"v":10`, 1),
		"white space":       strings.Replace(good, `,"id"`, `, "id"`, 1),
		"unknown field":     strings.Replace(good, "}", `,"x":""}`, 1),
		"a field missing":   strings.Replace(good, `,"code":""`, "", 1),
		"fields exchanged":  strings.Replace(good, `"code":"","request":"req_1"`, `"request":"req_1","code":""`, 1),
		"an escape":         strings.Replace(good, "acme", `\u0061cme`, 1),
		"a time with µs":    strings.Replace(good, ".000Z", ".000000Z", 1),
		"a time with zone":  strings.Replace(good, ".000Z", ".000+00:00", 1),
		"no day":            strings.Replace(good, "2026-03-01", "2026-02-30", 1),
		"a number":          strings.Replace(good, `"acme"`, `7`, 1),
		"bytes behind it":   good + "\n",
		"cut off":           good[:len(good)-1],
		"cut within fields": good[:40],
	} {
		if bad == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Decode([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error is %v, expected one of the kind invalid", name, err)
		}
	}
}

// What Decode accepts is what Encode makes.
func FuzzDecode(f *testing.F) {
	leaf, err := entry(1).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf)
	f.Add([]byte(`{"v":1,"id":""}`))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		kept := slices.Clone(leaf)
		e, err := Decode(leaf)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || string(again) != string(kept) {
			t.Fatalf("%q decodes, and encodes as %q, %v", kept, again, err)
		}
		if !json.Valid(leaf) {
			t.Fatalf("%q is no JSON", leaf)
		}
	})
}
