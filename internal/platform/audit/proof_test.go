package audit

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"sluice/internal/platform/fault"
)

// built returns a log of the size, made in a few batches.
func built(t testing.TB, s Storage, k Key, size int) *Log {
	t.Helper()
	l := open(t, s, k, Config{MaxBatch: 1 << 17, Recent: 1})
	for done := 0; done < size; {
		n := max((size-done)/2, 1)
		mustAppend(t, l, entriesFrom(done, n))
		done += n
	}
	return l
}

func TestProve(t *testing.T) {
	k := newTestKey(t)
	for _, size := range []int{1, 2, 255, 256, 257, 600, 65_537} {
		l := built(t, new(Memory), k, size)
		for _, index := range []int{0, 1, size / 2, 255, 256, size - 2, size - 1} {
			if index < 0 || index >= size {
				continue
			}
			p, err := l.Prove(t.Context(), int64(index))
			if err != nil {
				t.Fatal(err)
			}
			e, c, err := p.Check(k.Public())
			if err != nil || e != entry(index) || c.Size != int64(size) {
				t.Fatalf("size %d, index %d: %+v, %+v, %v", size, index, e, c, err)
			}
		}
		if _, err := l.Prove(t.Context(), int64(size)); !fault.Is(err, fault.NotFound) {
			t.Errorf("beyond the log: error is %v", err)
		}
	}
}

func TestProofText(t *testing.T) {
	k := newTestKey(t)
	l := built(t, new(Memory), k, 300)
	p, err := l.Prove(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("c2sp.org/tlog-proof@v1\nindex 7\n")) || !bytes.HasSuffix(text, append([]byte("\n\n"), l.Checkpoint()...)) {
		t.Errorf("text is %q", text)
	}
	again := Proof{Leaf: p.Leaf}
	if err := again.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	if e, _, err := again.Check(k.Public()); err != nil || e != entry(7) {
		t.Errorf("read again: %+v, %v", e, err)
	}
}

func TestFalseProofs(t *testing.T) {
	k := newTestKey(t)
	l := built(t, new(Memory), k, 300)
	p, err := l.Prove(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Prove(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Proof){
		"another entry":         func(p *Proof) { p.Leaf = other.Leaf },
		"another index":         func(p *Proof) { p.Index = 8 },
		"a negative index":      func(p *Proof) { p.Index = -1 },
		"beyond the checkpoint": func(p *Proof) { p.Index = 300 },
		"a hash less":           func(p *Proof) { p.Path = p.Path[1:] },
		"a hash more":           func(p *Proof) { p.Path = append(slices.Clone(p.Path), tlog.Hash{}) },
		"another size":          func(p *Proof) { p.Checkpoint = bytes.Replace(p.Checkpoint, []byte("\n300\n"), []byte("\n301\n"), 1) },
		"no checkpoint":         func(p *Proof) { p.Checkpoint = nil },
	} {
		bad := p
		change(&bad)
		if _, _, err := bad.Check(k.Public()); err == nil {
			t.Errorf("%s: the proof holds", name)
		}
	}
	if _, _, err := p.Check(newTestKey(t).Public()); !fault.Is(err, fault.PermissionDenied) {
		t.Errorf("another key: error is %v", err)
	}
}

func FuzzProofText(f *testing.F) {
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n" + origin + "\n1\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\nx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p Proof
		if p.UnmarshalText(text) != nil {
			return
		}
		if again, err := p.MarshalText(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q is read, and written as %q, %v", text, again, err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	k := keyOf(origin, signs, make([]byte, 32))
	signed, err := Checkpoint{Origin: origin, Size: 3}.sign([]Key{k})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseCheckpoint(text, k.Public())
		if err == nil && !bytes.HasPrefix(text, []byte(c.text())) {
			t.Fatalf("%q is read as %+v", text, c)
		}
	})
}

func TestConsistency(t *testing.T) {
	k := newTestKey(t)
	s := new(Memory)
	l := open(t, s, k, Config{})
	var seen []Checkpoint
	for i := 0; i < 700; {
		c, err := ParseCheckpoint(l.Checkpoint(), k.Public())
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, c)
		n := 1 + i/3
		mustAppend(t, l, entriesFrom(i, n))
		i += n
	}
	for i, from := range seen {
		for j, to := range seen {
			proof, err := l.Consistency(t.Context(), from.Size, to.Size)
			if i > j {
				if !fault.Is(err, fault.Invalid) || codeOf(CheckConsistency(from, to, nil)) != "audit_truncated" {
					t.Errorf("from %d to %d: error is %v", from.Size, to.Size, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(from, to, proof); err != nil {
				t.Errorf("from %d to %d: %v", from.Size, to.Size, err)
			}
			if from.Size == 0 {
				continue
			}
			from.Root[0]++
			want := map[bool]string{true: "audit_fork", false: "audit_inconsistent"}[i == j]
			if err := CheckConsistency(from, to, proof); codeOf(err) != want {
				t.Errorf("from another root of size %d to %d: error is %v", from.Size, to.Size, err)
			}
			from.Root[0]--
		}
	}
	if _, err := l.Consistency(t.Context(), 0, 10_000); !fault.Is(err, fault.Invalid) {
		t.Errorf("beyond the log: error is %v", err)
	}
}
