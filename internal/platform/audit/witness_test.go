package audit

import (
	"bytes"
	"crypto/rand"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

func newTestWitness(t testing.TB, name string) Key {
	t.Helper()
	w, err := NewWitnessKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A witness follows a log, and each of its cosignatures counts for a verifier.
func TestCosign(t *testing.T) {
	s, k, w := new(Memory), newTestKey(t), newTestWitness(t, "witness.example.com/w1")
	l := open(t, s, k, Config{})
	log := []PublicKey{k.Public()}
	var last []byte
	size := int64(0)
	for i := range 5 {
		mustAppend(t, l, entriesFrom(i*100, 100))
		var proof []tlog.Hash
		var err error
		if last != nil {
			if proof, err = l.Consistency(t.Context(), size, l.Size()); err != nil {
				t.Fatal(err)
			}
		}
		next := l.Checkpoint()
		if last, err = Cosign(w, noon, log, last, next, proof); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(last, next) || bytes.Count(last, []byte("\n— ")) != 2 {
			t.Fatalf("the checkpoint with the cosignature is %q", last)
		}
		size = l.Size()
	}
	trust := Trust{Keys: log, Witnesses: []PublicKey{w.Public()}}
	if r := verify(t, snapshot(s), trust); codes(r) != NoQuorum {
		t.Errorf("nothing witnessed: %+v", r)
	}
	if err := l.Witnessed(t.Context(), last, w.Public()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, entriesFrom(500, 50))
	if r := mustVerify(t, snapshot(s), trust, 550); r.Witnessed != 500 {
		t.Errorf("witnessed are %d entries, want 500", r.Witnessed)
	}
}

func TestWitnessRefuses(t *testing.T) {
	k, w := newTestKey(t), newTestWitness(t, "w")
	log := []PublicKey{k.Public()}
	l := open(t, new(Memory), k, Config{})
	mustAppend(t, l, entriesFrom(0, 10))
	ten := l.Checkpoint()
	mustAppend(t, l, entriesFrom(10, 10))
	twenty := l.Checkpoint()
	good, err := l.Consistency(t.Context(), 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	fork := open(t, new(Memory), k, Config{})
	mustAppend(t, fork, entriesFrom(1, 10))
	otherTen := fork.Checkpoint()
	for name, tc := range map[string]struct {
		last, next []byte
		proof      []tlog.Hash
		key        Key
		code       string
	}{
		"no proof":             {ten, twenty, nil, w, "audit_inconsistent"},
		"the proof of another": {otherTen, twenty, good, w, "audit_inconsistent"},
		"a smaller log":        {twenty, ten, nil, w, "audit_truncated"},
		"a fork":               {ten, otherTen, nil, w, "audit_fork"},
		"a needless proof":     {nil, ten, good, w, "invalid_audit_proof"},
		"an unsigned one":      {nil, bytes.Replace(ten, []byte("— example"), []byte("— another"), 1), nil, w, "audit_unsigned"},
		"a changed one":        {nil, bytes.Replace(ten, []byte("\n10\n"), []byte("\n11\n"), 1), nil, w, "invalid_audit_checkpoint"},
		"with a log's key":     {nil, ten, nil, k, "invalid_audit_key"},
		"a changed last one":   {bytes.Replace(ten, []byte("\n10\n"), []byte("\n11\n"), 1), twenty, good, w, "invalid_audit_checkpoint"},
	} {
		if signed, err := Cosign(tc.key, noon, log, tc.last, tc.next, tc.proof); codeOf(err) != tc.code {
			t.Errorf("%s: %q, %v; want the code %s", name, signed, err, tc.code)
		}
	}
	if err := l.Witnessed(t.Context(), twenty, w.Public()); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("stored without a cosignature: error is %v", err)
	}
}

func TestQuorum(t *testing.T) {
	s, k := new(Memory), newTestKey(t)
	log := []PublicKey{k.Public()}
	l := open(t, s, k, Config{})
	mustAppend(t, l, entriesFrom(0, 5))
	a, b, c := newTestWitness(t, "a"), newTestWitness(t, "b"), newTestWitness(t, "c")
	signed := l.Checkpoint()
	for _, w := range []Key{a, b} {
		var err error
		if signed, err = Cosign(w, noon, log, nil, signed, nil); err != nil {
			t.Fatal(err)
		}
	}
	twice := a
	twice.name = "a2"
	withTwice, err := Cosign(twice, noon, log, nil, signed, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		saved     []byte
		witnesses []Key
		quorum    int
		want      string
	}{
		"two of two":              {signed, []Key{a, b}, 0, ""},
		"two of three":            {signed, []Key{a, b, c}, 2, ""},
		"all of three":            {signed, []Key{a, b, c}, 0, NoQuorum},
		"none":                    {l.Checkpoint(), []Key{a}, 1, NoQuorum},
		"one key under two names": {withTwice, []Key{a, twice}, 2, NoQuorum},
		"given twice":             {signed, []Key{a, a}, 2, NoQuorum},
		"a changed cosignature":   {bytes.Replace(signed, []byte("— a "), []byte("— a AAAA"), 1), []Key{a}, 1, NoQuorum},
	} {
		trust := Trust{Keys: log, Quorum: tc.quorum, Saved: [][]byte{tc.saved}}
		for _, w := range tc.witnesses {
			trust.Witnesses = append(trust.Witnesses, w.Public())
		}
		if r := verify(t, snapshot(s), trust); codes(r) != tc.want {
			t.Errorf("%s: %+v, want %q", name, r, tc.want)
		}
	}
	for name, trust := range map[string]Trust{
		"no key":              {},
		"more than there are": {Keys: log, Quorum: 1},
	} {
		if _, err := Verify(t.Context(), snapshot(s), trust); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if r := verify(t, snapshot(s), Trust{Keys: log, Witnesses: log}); r.OK() {
		t.Error("the log's key is taken for a witness's")
	}
}
