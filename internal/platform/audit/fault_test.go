package audit

import (
	"context"
	"errors"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

var errDisk = errors.New("the disk is full")

// flaky is a storage whose n-th call from now on fails, before or after it has
// its effect, along with all that follow until it is repaired.
type flaky struct {
	*Memory
	mu     sync.Mutex
	left   int // calls until it fails
	effect bool
	broken bool
}

func (f *flaky) fails(effect func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return errDisk
	}
	if f.left--; f.left != 0 {
		return effect()
	}
	f.broken = true
	if f.effect {
		effect() // its answer is lost
	}
	return errDisk
}

func (f *flaky) Read(ctx context.Context, name string) (data []byte, err error) {
	err = f.fails(func() error { data, err = f.Memory.Read(ctx, name); return err })
	return data, err
}

func (f *flaky) Write(ctx context.Context, name string, data []byte) error {
	return f.fails(func() error { return f.Memory.Write(ctx, name, data) })
}

func (f *flaky) Swap(ctx context.Context, name string, old, data []byte) error {
	return f.fails(func() error { return f.Memory.Swap(ctx, name, old, data) })
}

func (f *flaky) Remove(ctx context.Context, names ...string) error {
	return f.fails(func() error { return f.Memory.Remove(ctx, names...) })
}

func (f *flaky) breakAfter(calls int, effect bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.effect, f.broken = calls, effect, false
}

func (f *flaky) repair() { f.breakAfter(0, false) }

// Whatever call to the storage fails, with or without its effect, and whether
// the process goes on or starts anew: every entry that is appended until it is
// acknowledged is in the log once, and what is published always verifies.
func TestFailingStorage(t *testing.T) {
	k := newTestKey(t)
	trust := Trust{Keys: []PublicKey{k.Public()}}
	rapid.Check(t, func(rt *rapid.T) {
		f := &flaky{Memory: new(Memory)}
		var l *Log
		next := 0
		if rapid.Bool().Draw(rt, "begun") {
			l = open(t, f, k, Config{})
			next = rapid.IntRange(0, 600).Draw(rt, "first")
			mustAppend(t, l, entriesFrom(0, next))
		}
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			if rapid.Bool().Draw(rt, "restart") {
				l = nil
			}
			n := rapid.IntRange(1, 300).Draw(rt, "entries")
			f.breakAfter(rapid.IntRange(1, 12).Draw(rt, "calls"), rapid.Bool().Draw(rt, "effect"))
			for tries := 0; ; tries++ {
				var err error
				if l == nil {
					l, err = Open(t.Context(), f, k, Config{})
				}
				var indexes []int64
				if err == nil {
					indexes, err = l.Append(t.Context(), entriesFrom(next, n))
				}
				if files := snapshot(f.Memory); files[checkpointName] != nil {
					if r := verify(t, files, trust); !r.OK() {
						rt.Fatalf("after %v: %+v", err, r.Problems)
					}
				}
				if err == nil {
					if indexes[0] != int64(next) || indexes[n-1] != int64(next+n-1) {
						rt.Fatalf("indexes are %v, expected them from %d on", indexes, next)
					}
					break
				}
				if !errors.Is(err, errDisk) || !fault.Is(err, fault.Unavailable) || tries > 3 {
					rt.Fatalf("try %d: %v", tries, err)
				}
				f.repair()
			}
			next += n
		}
		f.repair()
		if r := verify(t, snapshot(f.Memory), trust); !r.OK() || r.Entries != int64(next) {
			rt.Fatalf("expected %d entries, got %+v", next, r)
		}
	})
}

// What is put back, or put there by somebody without the key, is not built on.
func TestOpenRefusesDamage(t *testing.T) {
	k := newTestKey(t)
	other := newTestKey(t)
	s := new(Memory)
	l := open(t, s, k, Config{})
	mustAppend(t, l, entriesFrom(0, 300))
	before := snapshot(s)
	mustAppend(t, l, entriesFrom(300, 9))
	mustAppend(t, l, entriesFrom(309, 1))
	forged, err := batch{epoch: 1, start: 310, leaves: [][]byte{[]byte("x")}}.encode(other)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := s.Read(t.Context(), pendingName)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(files map[string][]byte){
		"the checkpoint is put back":     func(files map[string][]byte) { files[checkpointName] = before[checkpointName].Data },
		"the checkpoint is gone":         func(files map[string][]byte) { delete(files, checkpointName) },
		"the batch is somebody else's":   func(files map[string][]byte) { files[pendingName] = forged },
		"the batch has another entry":    func(files map[string][]byte) { files[pendingName] = append(mine[:len(mine):len(mine)], 0, 1, 'x') },
		"the batch is garbage":           func(files map[string][]byte) { files[pendingName] = []byte("x") },
		"a tile of the edge is gone":     func(files map[string][]byte) { delete(files, "tile/0/001.p/54") },
		"a tile of the edge is changed":  func(files map[string][]byte) { files["tile/1/000.p/1"][3]++ },
		"the bundle of the edge is gone": func(files map[string][]byte) { delete(files, "tile/entries/001.p/54") },
		"the bundle of the edge is cut": func(files map[string][]byte) {
			b := files["tile/entries/001.p/54"]
			files["tile/entries/001.p/54"] = b[:len(b)-1]
		},
		"an entry of the edge is changed":  func(files map[string][]byte) { files["tile/entries/001.p/54"][20]++ },
		"an entry behind it is unreadable": func(files map[string][]byte) { files["tile/entries/000"][5]++ },
	} {
		damaged := &Memory{objects: make(map[string][]byte)}
		for file, f := range snapshot(s) {
			damaged.objects[file] = f.Data
		}
		change(damaged.objects)
		if _, err := Open(t.Context(), damaged, k, Config{}); codeOf(err) != "audit_log_damaged" {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// A writer that does not know what became of its last batch, and finds that
// another one has taken over in the meantime, stays away.
func TestTakenOverWhileUnknown(t *testing.T) {
	k := newTestKey(t)
	for _, effect := range []bool{false, true} {
		f := &flaky{Memory: new(Memory)}
		first := open(t, f, k, Config{})
		mustAppend(t, first, entriesFrom(0, 3))
		f.breakAfter(1, effect) // the swap that decides
		if _, err := first.Append(t.Context(), entriesFrom(3, 1)); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("error is %v", err)
		}
		f.repair()
		mustAppend(t, open(t, f, k, Config{}), entriesFrom(10, 1))
		for range 2 {
			if _, err := first.Append(t.Context(), entriesFrom(3, 1)); codeOf(err) != "audit_second_writer" {
				t.Errorf("error is %v", err)
			}
		}
		size := int64(4)
		if effect {
			size = 5 // decided, so the second writer finished it
		}
		mustVerify(t, snapshot(f.Memory), Trust{Keys: []PublicKey{k.Public()}}, size)
	}
}

// interrupted lets something happen before the first read of the checkpoint.
type interrupted struct {
	*Memory
	meantime func()
}

func (s *interrupted) Read(ctx context.Context, name string) ([]byte, error) {
	if f := s.meantime; name == pendingName && f != nil {
		s.meantime = nil
		data, err := s.Memory.Read(ctx, name)
		f()
		return data, err
	}
	return s.Memory.Read(ctx, name)
}

// A log that moves on while it is opened is not taken for a damaged one.
func TestOpenedWhileWritten(t *testing.T) {
	k, m := newTestKey(t), new(Memory)
	l := open(t, m, k, Config{})
	mustAppend(t, l, entriesFrom(0, 3))
	_, err := Open(t.Context(), &interrupted{m, func() {
		mustAppend(t, l, entriesFrom(3, 2))
		mustAppend(t, l, entriesFrom(5, 2))
	}}, k, Config{})
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("error is %v, expected one of the kind conflict", err)
	}
	mustVerify(t, snapshot(m), Trust{Keys: []PublicKey{k.Public()}}, 7)
}
