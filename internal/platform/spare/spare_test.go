package spare

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// taker has taken turns, in goroutines of its own.
type taker struct {
	mu   sync.Mutex
	held []*Turn
}

// taken takes so many turns.
func taken(p *Processors, n int) *taker {
	all := new(taker)
	for range n {
		go func() {
			if t := (&Turn{of: p}); t.take(context.Background()) == nil {
				all.mu.Lock()
				defer all.mu.Unlock()
				all.held = append(all.held, t)
			}
		}()
	}
	return all
}

// n is how many there are so far.
func (a *taker) n() int {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.held)
}

// give gives those back that there are so far.
func (a *taker) give() { a.giveFirst(a.n()) }

func (a *taker) giveFirst(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.held[:n] {
		t.Done()
	}
}

// now is how many turns are taken.
func now(p *Processors) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

func TestTurnsAreWhatRequestsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(4)
		want := func(a *taker, n int, when string) {
			t.Helper()
			if got := a.n(); got != n {
				t.Fatalf("%s: %d turns, want %d", when, got, n)
			}
		}
		all := taken(p, 6)
		want(all, 4, "without requests")
		p.Begin()
		all.give()
		want(all, 6, "those that waited")
		all.give()
		beside := taken(p, 5)
		want(beside, 2, "beside a request")
		p.End()
		want(beside, 3, "after it")
		time.Sleep(memory)
		beside.giveFirst(1)
		want(beside, 5, "long after it")
		beside.give()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken != 0 || p.waiting.Load() != 0 || len(p.queue) != 0 {
			t.Errorf("%d taken, %d waiting, at the end", p.taken, p.waiting.Load())
		}
	})
}

// Threads with priorities have all processors while nobody asks for anything, and leave one to requests for a while after each;
// beside many there are no turns at all.
func TestTurnsOfLowPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cores := range []int{1, 2, 4} {
			p := of(cores)
			p.lanes = &lanes{}
			want := func(n int, when string) {
				t.Helper()
				if got := p.turns(); got != n {
					t.Errorf("%d processors, %s: %d turns, want %d", cores, when, got, n)
				}
			}
			want(cores, "at the start")
			p.Begin()
			want(max(cores-1, 1), "beside a request")
			for range 2*cores - 1 {
				p.Begin()
			}
			want(0, "beside two requests for each processor")
			for range 2 * cores {
				p.End()
			}
			want(max(cores-1, 1), "after them")
			time.Sleep(memory)
			want(cores, "a second later")
		}
	})
}

// Requests that leave nothing at all do not stop the work.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(2)
		for range 9 {
			p.Begin()
		}
		began := time.Now()
		for range 3 {
			turn := &Turn{of: p}
			if err := turn.take(t.Context()); err != nil {
				t.Fatal(err)
			}
			other := taken(p, 1)
			time.Sleep(patience / 2)
			if other.n() != 0 {
				t.Error("two turns at once")
			}
			turn.Done()
			time.Sleep(patience)
			synctest.Wait()
			other.give()
		}
		if took := time.Since(began); took > 9*patience {
			t.Errorf("three turns took %s", took)
		}
	})
}

// Who has the turns and never comes back stops nobody; whoever does come back gives up what is too many.
func TestTurnsThatStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(2)
		stuck := taken(p, 2)
		if stuck.n() != 2 {
			t.Fatal("no turns")
		}
		began, late := time.Now(), &Turn{of: p}
		if err := late.take(t.Context()); err != nil || time.Since(began) > 2*patience {
			t.Fatal("it waited for", time.Since(began), err)
		}
		next := taken(p, 1)
		time.Sleep(slice)
		if next.n() != 0 {
			t.Error("two turns too many at once")
		}
		go late.Yield(t.Context()) // it waits for a turn now, behind the next
		time.Sleep(3 * patience)
		if next.n() != 1 {
			t.Error("the turn too many is kept")
		}
		next.give()
		stuck.give()
		synctest.Wait()
		late.Done()
		if now(p) != 0 {
			t.Errorf("%d turns are taken at the end", now(p))
		}
	})
}

// What a holder calls gives the turn up while it waits, and takes it at once where others wait for it.
func TestLend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(1)
		turn, other := &Turn{of: p}, &Turn{of: p}
		_ = turn.take(t.Context())
		kept := make(chan context.Context, 2)
		began := time.Now()
		turn.Lend(t.Context(), func(ctx context.Context) {
			kept <- ctx
			kept <- ctx
			Pause(ctx)
			Pause(ctx)
			_ = other.take(t.Context())
			Resume(ctx)
			Resume(ctx)
			if now(p) != 2 || time.Since(began) != 0 {
				t.Errorf("%d turns after %s", now(p), time.Since(began))
			}
			Pause(ctx)
			go func() { time.Sleep(patience / 2); other.Done() }()
		})
		if !turn.held || now(p) != 1 || time.Since(began) != patience/2 {
			t.Errorf("held %t, %d turns after %s", turn.held, now(p), time.Since(began))
		}
		Pause(<-kept)
		if turn.Done(); now(p) != 0 {
			t.Errorf("%d turns are taken at the end", now(p))
		}
		Resume(<-kept) // too late
		Pause(t.Context())
		if now(p) != 0 {
			t.Error("a turn is taken for nobody")
		}
	})
}

// A quota of processors is not doubled.
func TestUnlimited(t *testing.T) {
	if unlimited(2, 4) || !unlimited(4, 4) || !unlimited(8, 4) {
		t.Error("threads of low priority go past a quota, or are not used without one")
	}
}

func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(2)
		turn := &Turn{of: p}
		_ = turn.take(t.Context())
		time.Sleep(2 * slice)
		turn.Yield(t.Context()) // nobody asks for anything
		p.Begin()
		yielded := make(chan struct{})
		time.Sleep(slice / 2)
		turn.Yield(t.Context()) // too early
		time.Sleep(slice)
		go func() { turn.Yield(t.Context()); close(yielded) }()
		synctest.Wait()
		select {
		case <-yielded:
			t.Fatal("it goes on beside the request")
		default:
		}
		p.End()
		<-yielded
		turn.Done()
		turn.Done()
		if p.taken != 0 {
			t.Errorf("%d turns are taken at the end", p.taken)
		}
	})
}

// Who goes away leaves no turn taken, whenever that is.
func TestContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := of(1)
		turn := &Turn{of: p}
		_ = turn.take(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { failed <- (&Turn{of: p}).take(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		p.Begin()
		time.Sleep(2 * slice)
		turn.Yield(ctx)
		if turn.held || p.taken != 0 || len(p.queue) != 0 {
			t.Errorf("held %t, %d taken, %d wait", turn.held, p.taken, len(p.queue))
		}
		turn.Yield(t.Context())
		turn.Done()
		if p.taken != 0 {
			t.Errorf("%d taken", p.taken)
		}
	})
}

func TestNothingIsSharedWhereThereIsNil(t *testing.T) {
	var p *Processors
	p.Begin()
	p.End()
	p.Close()
	done := false
	if err := p.Do(t.Context(), func(turn *Turn) {
		turn.Yield(t.Context())
		turn.Lend(t.Context(), Pause)
		turn.Rest(t.Context(), func() { done = true })
	}); err != nil || !done || p.Cores() < 1 {
		t.Error(err, done)
	}
}

// Whatever comes and goes, no more turns are taken than there are, all of them come back, and
// everybody has one at last.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cores, workers := rapid.IntRange(1, 4).Draw(rt, "cores"), rapid.IntRange(1, 8).Draw(rt, "workers")
		requests := rapid.SliceOfN(rapid.IntRange(0, 3000), 0, 20).Draw(rt, "requests")
		synctest.Test(t, func(t *testing.T) {
			p := of(cores)
			for _, at := range requests {
				go func() {
					time.Sleep(time.Duration(at) * time.Microsecond)
					p.Begin()
					time.Sleep(300 * time.Microsecond)
					p.End()
				}()
			}
			for range workers {
				go func() {
					turn := &Turn{of: p}
					_ = turn.take(context.Background())
					for range 20 {
						time.Sleep(100 * time.Microsecond)
						p.mu.Lock()
						if p.taken > cores {
							t.Errorf("%d turns of %d are taken", p.taken, cores)
						}
						p.mu.Unlock()
						turn.Yield(context.Background())
					}
					turn.Done()
				}()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if p.taken != 0 || len(p.queue) != 0 || p.waiting.Load() != 0 || p.requests.Load() != 0 {
				t.Errorf("%d taken, %d wait, %d requests", p.taken, len(p.queue), p.requests.Load())
			}
		})
	})
}
