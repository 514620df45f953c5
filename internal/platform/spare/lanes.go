package spare

import (
	"runtime"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// linger is how long a thread waits for more to do.
const linger = time.Second

// lanes are threads of low priority. As long as there are any, Go has twice as many processors
// as there are: else a thread that the system lets wait would keep one of them from requests.
type lanes struct {
	work   chan func() // taken by threads that have nothing to do; unbuffered
	closed chan struct{}
	once   sync.Once
}

func newLanes() *lanes {
	_ = watched() // while no lane runs: this thread has the common priority
	return &lanes{work: make(chan func()), closed: make(chan struct{})}
}

// cores is how many processors Go was given at the start; lowered counts the threads of lanes.
var (
	cores   = runtime.GOMAXPROCS(0)
	lowered struct {
		mu sync.Mutex
		n  int
	}
)

// common is how many processors Go has while there are no lanes: one beside those that runs of models keep.
func common() int { return cores + 1 }

func (l *lanes) close() { l.once.Do(func() { close(l.closed) }) }

// run has one of the threads run f, and waits for it. A panic of f is the caller's.
func (l *lanes) run(f func()) {
	var c panics.Catcher
	done := make(chan struct{})
	work := func() {
		defer close(done) // also where f ends its goroutine
		c.Try(f)
	}
	select {
	case l.work <- work:
	default:
		count(1)
		go l.lane(work)
	}
	<-done
	c.Repanic()
}

// lane is what a thread does. The thread ends with this goroutine, since its priority cannot be raised again.
func (l *lanes) lane(work func()) {
	runtime.LockOSThread()
	defer count(-1)
	_ = lower() // New has found that it can
	defer enterIdle()()
	rest := time.NewTimer(linger)
	for {
		work()
		rest.Reset(linger)
		select {
		case work = <-l.work:
		case <-rest.C:
			return
		case <-l.closed:
			return
		}
	}
}

// count adds to the number of threads.
func count(by int) {
	lowered.mu.Lock()
	defer lowered.mu.Unlock()
	before := lowered.n
	lowered.n += by
	if (before == 0) != (lowered.n == 0) {
		widen()
	}
}

// widen gives Go as many processors as it needs now. lowered.mu is held.
func widen() {
	want := common()
	if lowered.n > 0 {
		want = max(want, 2*cores)
	}
	if runtime.GOMAXPROCS(0) != want { // which would stop the world
		runtime.GOMAXPROCS(want)
	}
}
