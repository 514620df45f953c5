package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/fault"
)

func TestAppend(t *testing.T) {
	s, k := new(Memory), newTestKey(t)
	l := open(t, s, k, Config{})
	mustVerify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}, 0)
	next := 0
	for _, n := range []int{1, 2, 0, 253, 1, 300, 700} {
		indexes := mustAppend(t, l, entriesFrom(next, n))
		for i, index := range indexes {
			if index != int64(next+i) {
				t.Fatalf("entry %d has the index %d", next+i, index)
			}
		}
		next += n
		mustVerify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}, int64(next))
	}
	if l.Size() != int64(next) {
		t.Errorf("size is %d, want %d", l.Size(), next)
	}
	var read []Logged
	trust := Trust{Keys: []PublicKey{k.Public()}, Entry: func(e Logged) error { read = append(read, e); return nil }}
	mustVerify(t, snapshot(s), trust, int64(next))
	for i, e := range read {
		if e != (Logged{int64(i), entry(i)}) {
			t.Fatalf("entry %d was read as %+v", i, e)
		}
	}
	if len(read) != next {
		t.Errorf("read %d entries of %d", len(read), next)
	}
	// Opened again, it goes on.
	l = open(t, s, k, Config{})
	if got := mustAppend(t, l, entriesFrom(next, 1)); got[0] != int64(next) {
		t.Errorf("after opening again the index is %d, want %d", got[0], next)
	}
}

func TestAppendRefuses(t *testing.T) {
	l := open(t, new(Memory), newTestKey(t), Config{MaxBatch: 2})
	if _, err := l.Append(t.Context(), entriesFrom(0, 3)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too many: error is %v", err)
	}
	bad := entry(1)
	bad.Actor = "jane doe"
	if _, err := l.Append(t.Context(), []Entry{entry(0), bad}); !fault.Is(err, fault.Invalid) {
		t.Errorf("invalid: error is %v", err)
	}
	if l.Size() != 0 {
		t.Errorf("%d entries of a refused call are logged", l.Size())
	}
}

// The same id is logged once: within a call, later, after opening again, and
// with the help of Known also when it is no longer remembered.
func TestAppendIsIdempotent(t *testing.T) {
	s, k := new(Memory), newTestKey(t)
	var asked []string
	cfg := Config{Recent: 10, Known: func(_ context.Context, ids []string) (map[string]int64, error) {
		asked = append(asked, ids...)
		return map[string]int64{entry(0).ID: 0}, nil
	}}
	l := open(t, s, k, cfg)
	expect := func(list []Entry, want ...int64) {
		t.Helper()
		if got := mustAppend(t, l, list); !slices.Equal(got, want) {
			t.Errorf("indexes are %v, want %v", got, want)
		}
	}
	mustAppend(t, l, []Entry{entry(100)})
	expect([]Entry{entry(1), entry(2), entry(1)}, 1, 2, 1)
	expect([]Entry{entry(2), entry(3)}, 2, 3)
	l = open(t, s, k, cfg)
	expect([]Entry{entry(3), entry(4), entry(100)}, 3, 4, 0)
	mustAppend(t, l, entriesFrom(200, 10))
	asked = nil
	expect([]Entry{entry(0), entry(209), entry(300)}, 0, 14, 15)
	if !slices.Equal(asked, []string{entry(0).ID, entry(300).ID}) {
		t.Errorf("asked for %v", asked)
	}
	if len(l.recent.index) > 10 {
		t.Errorf("%d entries are remembered, want 10", len(l.recent.index))
	}
	mustVerify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}, 16)
}

// A read model that knows more than the log has seen the log put back.
func TestKnownBeyondTheLog(t *testing.T) {
	l := open(t, new(Memory), newTestKey(t), Config{Known: func(context.Context, []string) (map[string]int64, error) {
		return map[string]int64{entry(0).ID: 7}, nil
	}})
	if _, err := l.Append(t.Context(), entriesFrom(0, 1)); codeOf(err) != "audit_log_damaged" {
		t.Errorf("error is %v", err)
	}
}

// slow is a storage whose swaps take a second.
type slow struct {
	Memory
	swaps atomic.Int32
}

func (s *slow) Swap(ctx context.Context, name string, old, data []byte) error {
	s.swaps.Add(1)
	select {
	case <-time.After(time.Second):
		return s.Memory.Swap(ctx, name, old, data)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestCallsShareCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(slow)
		l := open(t, s, newTestKey(t), Config{})
		s.swaps.Store(0)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if got := mustAppend(t, l, entriesFrom(i*2, 2)); got[1] != got[0]+1 {
					t.Errorf("entries of one call have the indexes %v", got)
				}
			})
		}
		all.Wait()
		// Two swaps a checkpoint: at first the one that came first, then all.
		if took := time.Since(began); took > 4*time.Second || s.swaps.Load() > 4 || l.Size() != 200 {
			t.Errorf("%d entries took %s and %d swaps", l.Size(), took, s.swaps.Load())
		}
		mustVerify(t, snapshot(&s.Memory), Trust{Keys: []PublicKey{l.key.Public()}}, 200)
	})
}

// Who does not wait any longer is not logged where nobody had begun, and
// disturbs nobody else.
func TestCancelledAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, new(slow), newTestKey(t), Config{})
		var all sync.WaitGroup
		all.Go(func() { mustAppend(t, l, entriesFrom(0, 1)) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.Append(ctx, entriesFrom(1, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		all.Wait()
		if l.Size() != 1 {
			t.Errorf("size is %d, want 1", l.Size())
		}
		// The one that commits goes on for the others.
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		all.Go(func() { l.Append(ctx, entriesFrom(2, 1)) })
		synctest.Wait()
		mustAppend(t, l, entriesFrom(3, 1))
		all.Wait()
		if l.Size() != 3 {
			t.Errorf("size is %d, want 3", l.Size())
		}
	})
}

// The storage that hangs is given up, and the log goes on when it is back.
func TestHangingStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hanging{}
		l := open(t, s, newTestKey(t), Config{Timeout: time.Second})
		s.hangs.Store(true)
		began := time.Now()
		if _, err := l.Append(t.Context(), entriesFrom(0, 1)); !fault.Is(err, fault.Unavailable) || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		s.hangs.Store(false)
		mustAppend(t, l, entriesFrom(0, 1))
		mustVerify(t, snapshot(&s.Memory), Trust{Keys: []PublicKey{l.key.Public()}}, 1)
	})
}

type hanging struct {
	Memory
	hangs atomic.Bool
}

func (s *hanging) Write(ctx context.Context, name string, data []byte) error {
	if s.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Memory.Write(ctx, name, data)
}

func TestSecondWriter(t *testing.T) {
	s, k := new(Memory), newTestKey(t)
	first := open(t, s, k, Config{})
	mustAppend(t, first, entriesFrom(0, 10))
	second := open(t, s, k, Config{})
	for range 2 { // for good
		if _, err := first.Append(t.Context(), entriesFrom(10, 1)); codeOf(err) != "audit_second_writer" {
			t.Errorf("the first writer goes on: error is %v", err)
		}
	}
	if got := mustAppend(t, second, entriesFrom(10, 1)); got[0] != 10 {
		t.Errorf("index is %d", got[0])
	}
	mustVerify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}, 11)
}

// Many writers that open the log whenever they are refused make one history.
func TestWritersThatFight(t *testing.T) {
	s, k := new(Memory), newTestKey(t)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			var l *Log
			for i := 0; i < 50; {
				var err error
				if l == nil {
					l, err = Open(t.Context(), s, k, Config{})
				} else if _, err = l.Append(t.Context(), entriesFrom(w*1000+i*3, 3)); err == nil {
					i++
				}
				if fault.Is(err, fault.Conflict) {
					l = nil
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	mustVerify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}}, 600)
}

func TestKeyRotation(t *testing.T) {
	s, old, next := new(Memory), newTestKey(t), newTestKey(t)
	both := func(size int64, want map[string]bool) {
		t.Helper()
		for name, k := range map[string]Key{"old": old, "new": next} {
			r := verify(t, snapshot(s), Trust{Keys: []PublicKey{k.Public()}})
			if r.OK() != want[name] || r.OK() && r.Size != size {
				t.Errorf("with the %s key: %+v, want %t", name, r, want[name])
			}
		}
	}
	mustAppend(t, open(t, s, old, Config{}), entriesFrom(0, 3))
	both(3, map[string]bool{"old": true})
	l := open(t, s, old, Config{Overlap: []Key{next}})
	both(3, map[string]bool{"old": true, "new": true})
	mustAppend(t, l, entriesFrom(3, 3))
	both(6, map[string]bool{"old": true, "new": true})
	l = open(t, s, next, Config{Trusted: []PublicKey{old.Public()}})
	mustAppend(t, l, entriesFrom(6, 3))
	both(9, map[string]bool{"new": true})
	if _, err := Open(t.Context(), s, old, Config{}); codeOf(err) != "audit_log_damaged" {
		t.Errorf("opened with a key that has not signed: error is %v", err)
	}
	other, err := NewWitnessKey(zeros{}, "other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s, next, Config{Overlap: []Key{other}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("overlap with a key of another name: error is %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
