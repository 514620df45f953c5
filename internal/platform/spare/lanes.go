package spare

import (
	"runtime"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// linger is how long a thread waits for more to do.
const linger = time.Second

// lanes are threads of low priority. As long as there are any, Go has twice the processors that there are: else a
// thread that the system lets wait would keep one from requests.
type lanes struct {
	work   chan func() // taken by threads that have nothing to do
	closed chan struct{}
	once   sync.Once
}

func newLanes() *lanes {
	_ = watched() // from a thread of common priority, which all of this one's are not
	return &lanes{work: make(chan func()), closed: make(chan struct{})}
}

// cores is how many processors Go was given at the start, and lowered how many such threads there are.
var (
	cores   = runtime.GOMAXPROCS(0)
	lowered struct {
		mu sync.Mutex
		n  int
	}
)

// common is how many processors Go has while there are no such threads: one beside those that runs of models keep.
func common() int { return cores + 1 }

func (l *lanes) close() { l.once.Do(func() { close(l.closed) }) }

// run has f run by one of the threads, and returns when it has. A panic of f is the caller's.
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

// lane is a thread's life. It ends with its goroutine, since a priority cannot be raised again.
func (l *lanes) lane(work func()) {
	runtime.LockOSThread()
	defer count(-1)
	_ = lower() // as it could before
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

// count counts threads.
func count(by int) {
	lowered.mu.Lock()
	defer lowered.mu.Unlock()
	before := lowered.n
	lowered.n += by
	if (before == 0) != (lowered.n == 0) {
		widen()
	}
}

// widen gives Go its processors. lowered.mu is held.
func widen() {
	want := common()
	if lowered.n > 0 {
		want = max(want, 2*cores)
	}
	if runtime.GOMAXPROCS(0) != want { // which would stop the world
		runtime.GOMAXPROCS(want)
	}
}
