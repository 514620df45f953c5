package spare

import (
	"runtime"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
)

// linger is how long a thread waits for more to do.
const linger = time.Second

// lanes are threads of low priority. Go has twice the processors that there are: else a
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

// cores is how many processors Go was given at the start.
var cores = runtime.GOMAXPROCS(0)

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
		go l.lane(work)
	}
	<-done
	c.Repanic()
}

// lane is a thread's life. It ends with its goroutine, since a priority cannot be raised again.
func (l *lanes) lane(work func()) {
	runtime.LockOSThread()
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
