package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// errStep is a step that fails.
var errStep = errors.New("a step failed")

// numbered is an item that notes what is done with it.
type numbered struct {
	n       int
	run     func(ctx context.Context) error
	send    func(n int, failed error) error
	running *atomic.Int32
	done    *atomic.Int32
}

func (i *numbered) Run(ctx context.Context) error {
	i.running.Add(1)
	defer i.running.Add(-1)
	return i.run(ctx)
}
func (i *numbered) Send(_ context.Context, failed error) error { return i.send(i.n, failed) }
func (i *numbered) Done()                                      { i.done.Add(1) }

// Whatever runs how long: answers keep the order, no more run at once than may,
// steps of one sequence run one after another and not behind one that failed.
func TestLineKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		depth := rapid.IntRange(1, 8).Draw(t, "depth")
		seed := rapid.Uint64().Draw(t, "seed")
		type input struct {
			sequence    string
			fails, anew bool
		}
		inputs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) input {
			return input{rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "sequence"), rapid.IntRange(0, 5).Draw(t, "fails") == 0, rapid.IntRange(0, 3).Draw(t, "anew") == 0}
		}), 0, 40).Draw(t, "inputs")
		l := NewLine(context.Background(), depth)
		var running, done atomic.Int32
		var mu sync.Mutex
		var got []int
		outcomes := make([]error, len(inputs))
		lanes := map[string]*atomic.Int32{"a": {}, "b": {}}
		for n, in := range inputs {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			err := l.Add(&numbered{n: n, running: &running, done: &done,
				run: func(context.Context) error {
					if int(running.Load()) > depth {
						t.Errorf("%d run at once", running.Load())
					}
					if lane := lanes[in.sequence]; lane != nil {
						if lane.Add(1) != 1 {
							t.Errorf("two steps of %s run at once", in.sequence)
						}
						defer lane.Add(-1)
					}
					for range random.IntN(2000) {
						_ = random.Uint64()
					}
					if in.fails {
						return errStep
					}
					return nil
				},
				send: func(n int, failed error) error {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, n)
					outcomes[n] = failed
					return nil
				},
			}, Order{Sequence: in.sequence, Anew: in.anew})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Wait(); err != nil || int(done.Load()) != len(inputs) || !slices.IsSorted(got) || len(got) != len(inputs) {
			t.Fatalf("%v; done %d of %d, sent %v", err, done.Load(), len(inputs), got)
		}
		halted := map[string]bool{}
		for n, in := range inputs {
			want := error(nil)
			switch {
			case in.sequence != "" && halted[in.sequence] && !in.anew:
				want = ErrHalted
			case in.fails:
				want = errStep
			}
			if !errors.Is(outcomes[n], want) {
				t.Errorf("input %d: got %v, want %v", n, outcomes[n], want)
			}
			halted[in.sequence] = want != nil
		}
	})
}

// A client that is gone ends the line: nothing is sent to it any more, what is
// in progress gives up, and everything is let go of.
func TestLineEnds(t *testing.T) {
	l := NewLine(t.Context(), 4)
	var running, done atomic.Int32
	gone := errors.New("gone")
	block := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	item := func(run func(context.Context) error) *numbered {
		return &numbered{running: &running, done: &done, run: run, send: func(int, error) error { return gone }}
	}
	added := 0
	for l.Add(item(block), Order{Sequence: "a"}) == nil {
		if added++; added == 2 {
			if err := l.Add(item(func(context.Context) error { panic("unlucky") }), Order{}); err != nil {
				t.Error(err)
			}
			l.Stop(gone)
			break
		}
	}
	<-l.Failed()
	if err := l.Add(item(block), Order{}); err != nil && !errors.Is(err, gone) {
		t.Error(err)
	}
	if err := l.Wait(); !errors.Is(err, gone) || done.Load() != 4 {
		t.Errorf("%v, %d done", err, done.Load())
	}
	l = NewLine(t.Context(), 1)
	if err := l.Add(&numbered{running: &running, done: &done, run: func(context.Context) error { panic("unlucky") },
		send: func(_ int, failed error) error { return failed }}, Order{}); err != nil {
		t.Error(err)
	}
	if err := l.Wait(); !fault.Is(err, fault.Internal) {
		t.Errorf("a panic ends as %v", err)
	}
}

// The sequences that a line remembers are bounded.
func TestLineForgetsSequences(t *testing.T) {
	l := NewLine(t.Context(), 1)
	var running, done atomic.Int32
	add := func(n int, err error) error {
		return l.Add(&numbered{running: &running, done: &done, run: func(context.Context) error { return err }, send: func(int, error) error { return nil }},
			Order{Sequence: string(rune('a'+n%26)) + string(rune(n))})
	}
	for n := range 3 * maxLanes {
		if err := add(n, nil); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for n := range 2 * maxLanes {
		if err = add(n, errStep); err != nil {
			break
		}
	}
	if fault.CodeOf(err) != "sequences_per_stream" || len(l.lanes) > maxLanes {
		t.Errorf("%v, %d lanes", err, len(l.lanes))
	}
	if err := l.Wait(); fault.CodeOf(err) != "sequences_per_stream" {
		t.Error(err)
	}
}
