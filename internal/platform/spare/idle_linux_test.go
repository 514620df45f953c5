//go:build cgo

package spare

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// locked runs f on a thread that ends with it.
func locked(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func policy(thread int) uint32 {
	a, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return 99
	}
	return a.Policy
}

// A thread of low priority is in the idle class until it leaves it, and is as it was then.
func TestIdle(t *testing.T) {
	if !priorities() || !watched() {
		t.Log("nobody may be lifted here")
		return
	}
	locked(func() {
		if err := lower(); err != nil {
			t.Error(err)
		}
		before, _ := unix.SchedGetAttr(0, 0)
		listed := idlers()
		leave := enterIdle()
		thread := unix.Gettid()
		seen := false
		for until := time.Now().Add(20 * time.Second); !seen && time.Now().Before(until); { // it may be lifted just now
			seen = policy(thread) == unix.SCHED_IDLE
		}
		if !seen || idlers() != listed+1 {
			t.Errorf("it has the policy %d, %d are listed", policy(thread), idlers())
		}
		leave()
		after, err := unix.SchedGetAttr(0, 0)
		if err != nil || *after != *before || idlers() != listed {
			t.Errorf("it was %+v and is %+v, %d are listed; %v", before, after, idlers(), err)
		}
	})
}

// Who looks after them is not lowered itself, though threads of low priority came first.
func TestWatchIsCommon(t *testing.T) {
	p := New()
	defer p.Close()
	if err := p.Do(t.Context(), func(*Turn) {}); err != nil {
		t.Fatal(err)
	}
	if p.lanes == nil || !watched() {
		t.Log("nobody may be lifted here")
		return
	}
	eventually(t, "the watch does not run", func() bool { return watcher() != 0 })
	common, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := unix.SchedGetAttr(watcher(), 0); err != nil || *is != *common {
		t.Errorf("it is %+v, this thread %+v; %v", is, common, err)
	}
}

// What a thread of the idle class does goes on where others take all processors, since it is lifted.
func TestWhoStarvesIsLifted(t *testing.T) {
	if !priorities() || !watched() {
		t.Log("nobody may be lifted here")
		return
	}
	p := New()
	if p.lanes == nil {
		t.Log("there are no such threads here")
		return
	}
	busy := 2 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*busy + 2)) // whose goroutines do not take turns
	var stop atomic.Bool
	var others sync.WaitGroup
	defer others.Wait()
	defer stop.Store(true)
	before := lifts()
	working := make(chan struct{})
	others.Go(func() {
		defer p.Close()
		if err := p.Do(t.Context(), func(*Turn) {
			runtime.GOMAXPROCS(2*busy + 2) // which the first such thread has set
			close(working)
			for !stop.Load() {
			}
		}); err != nil {
			t.Error(err)
		}
	})
	<-working
	for range busy {
		others.Go(func() {
			for !stop.Load() {
			}
		})
	}
	eventually(t, "nobody is lifted", func() bool { return lifts() > before })
}

// Where a process may not raise a priority, threads stay out of the class that they would not come back from.
func TestWhoMayNotBeLifted(t *testing.T) {
	locked(func() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NICE, &limit); err != nil || limit.Cur > 0 {
			t.Log("this process may raise priorities", limit, err)
			return
		}
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			t.Log(err)
			return
		}
		data[0].Effective &^= 1 << unix.CAP_SYS_NICE
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Log(err)
			return
		}
		if returns() {
			t.Error("it comes back")
		}
	})
}
