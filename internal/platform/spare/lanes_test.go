package spare

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

// Work runs on threads of low priority, of which others' goroutines see nothing; Go has one processor more than
// there are, since models' runs keep as many, and twice as many while there is such work.
func TestLanes(t *testing.T) {
	own := nice()
	eventually(t, "threads of another test stay", func() bool {
		lowered.mu.Lock()
		defer lowered.mu.Unlock()
		return lowered.n == 0
	})
	p := New()
	if want := common(); unlimited(cores, runtime.NumCPU()) && runtime.GOMAXPROCS(0) != want || Cores() != cores || p.Cores() != cores {
		t.Errorf("%d processors of %d, want %d", runtime.GOMAXPROCS(0), Cores(), want)
	}
	if (p.lanes != nil) != (runtime.GOOS == "linux" && cores >= runtime.NumCPU()) {
		t.Fatal("priorities", p.lanes)
	}
	var all sync.WaitGroup
	for range 3 * cores {
		all.Go(func() {
			if err := p.Do(t.Context(), func(*Turn) {
				if p.lanes != nil && (nice() != min(own+niceness, 19) || runtime.GOMAXPROCS(0) != max(2*cores, cores+1)) {
					t.Errorf("niceness %d, %d processors", nice(), runtime.GOMAXPROCS(0))
				}
				time.Sleep(time.Millisecond)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p.Close()
	p.Close()
	eventually(t, "the processors stay", func() bool { return p.lanes == nil || runtime.GOMAXPROCS(0) == common() })
	for range 100 { // on threads that may be new
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if nice() != own {
				t.Error("a goroutine of somebody else has a low priority")
			}
		})
	}
	all.Wait()
	if err := p.Do(t.Context(), func(*Turn) {}); err != nil {
		t.Error("nothing runs after the end", err)
	}
	eventually(t, "a turn stays", func() bool { return p.taken == 0 && (p.lanes == nil || runtime.GOMAXPROCS(0) == common()) })
}

// What goes wrong in the work is its caller's, and costs no turn.
func TestBrokenWork(t *testing.T) {
	p := New()
	defer p.Close()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_ = p.Do(t.Context(), func(*Turn) { panic("oops") })
	}()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = p.Do(t.Context(), func(*Turn) { runtime.Goexit() })
	}()
	<-gone
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 * p.cores {
		p.Begin()
	}
	if err := p.Do(ctx, func(*Turn) { t.Error("it runs") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if p.taken != 0 {
		t.Errorf("%d turns are taken", p.taken)
	}
}
