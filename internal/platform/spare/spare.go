// Package spare gives work that nobody waits for what requests leave of the processors.
//
// Go's scheduler knows no priorities: a goroutine that computes keeps its processor for up
// to 10 ms, and while all processors are kept so, nobody even reads a request that arrives.
// So work in the background runs on threads of its own, to which the system's scheduler
// gives a low priority: that of the idle class where a thread that starves can be lifted out
// of it, else a niceness. Meanwhile Go gets twice as many processors as there are. The work
// also takes turns, and there are none while there are more requests than processors: a
// thread that has to wait for a processor may hold what requests need.
//
// Requests, too, need one processor more than there are. A run of a model is a call out of
// Go, which keeps its processor until the runtime's monitor sees that it lasts. The monitor
// looks every 10 ms when little happens, and where runs take five it finds another call each
// time: with as many runs at once as processors, nobody read a connection for up to a second.
//
// Where threads have no priorities, or Go is not to use all processors, there are fewer turns
// than processors while there are requests, and each is given up after a short while.
//
// Limits: requests are known from when they begin here, not from their first byte. Threads
// that a model's run starts itself have the common priority. GOMAXPROCS is set, and no longer
// follows a container's limits.
package spare

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// memory is how long a request counts as one that others may follow.
	memory = time.Second
	// slice is how long a turn lasts beside requests.
	slice = 500 * time.Microsecond
	// patience is how long work waits while nobody is given a turn, because requests never leave
	// one or those who have them do not give them up. Then there is one turn more, so that work
	// never stands still. Each turn beyond those that there are doubles the wait for the next.
	patience = 10 * time.Millisecond
	// doublings is how often patience is doubled at most.
	doublings = 7
)

// Processors are those that a process runs on. It is safe for concurrent use; nil has
// turns for all.
type Processors struct {
	cores int
	lanes *lanes // nil: threads have no priorities
	epoch time.Time

	requests atomic.Int64 // in progress
	last     atomic.Int64 // when the last one began, since epoch, in nanoseconds
	waiting  atomic.Int64 // length of queue

	mu    sync.Mutex
	taken int             // turns
	given time.Duration   // when a turn was taken or given last, since epoch
	queue []chan struct{} // one for each who waits for a turn, the first first; closed once it has one
}

// New returns the processors that Go uses, and gives it one more, unless it is not to use all
// that there are. Close it when no work is left.
func New() *Processors {
	p := of(cores)
	if !unlimited(cores, runtime.NumCPU()) {
		return p
	}
	lowered.mu.Lock()
	widen()
	lowered.mu.Unlock()
	if priorities() {
		p.lanes = newLanes()
	}
	return p
}

// unlimited says whether Go may use all processors that there are. Where it may not, by a container's
// quota or by GOMAXPROCS, twice as many would go past what somebody meant it to have: a quota
// then stops the whole process until its next period, requests too.
func unlimited(procs, cpus int) bool { return procs >= cpus }

func of(n int) *Processors {
	p := &Processors{cores: n, epoch: time.Now()}
	p.last.Store(-int64(memory))
	return p
}

// Close ends the threads that have nothing to do.
func (p *Processors) Close() {
	if p != nil && p.lanes != nil {
		p.lanes.close()
	}
}

// Cores is how many processors there are, whatever GOMAXPROCS is meanwhile.
func Cores() int { return cores }

// Cores is how many processors there are, whatever GOMAXPROCS is meanwhile.
func (p *Processors) Cores() int {
	if p == nil {
		return cores
	}
	return p.cores
}

func (p *Processors) now() time.Duration { return time.Since(p.epoch) }

// Begin says that a request has come. End must follow.
func (p *Processors) Begin() {
	if p != nil {
		p.requests.Add(1)
		p.last.Store(int64(p.now()))
	}
}

// End says that a request has been answered.
func (p *Processors) End() {
	if p == nil {
		return
	}
	p.requests.Add(-1)
	if p.waiting.Load() > 0 {
		p.mu.Lock()
		p.grant()
		p.mu.Unlock()
	}
}

// lately says whether there are requests, or were some a moment ago.
func (p *Processors) lately() bool {
	return p.requests.Load() > 0 || p.now()-time.Duration(p.last.Load()) < memory
}

// turns is how many may be taken: without requests, one for each processor. With requests one
// processor is left to the next of them, which an idle one begins sooner than one that has to be
// taken from other work. Where threads have priorities, requests and turns together are at most
// two for each processor; else there is a turn less for each request in progress.
func (p *Processors) turns() int {
	switch n := int(p.requests.Load()); {
	case !p.lately():
		return p.cores
	case p.lanes != nil:
		return min(max(p.cores-1, 1), 2*p.cores-n)
	default:
		return max(p.cores-1, 1) - n
	}
}

// grant gives turns to those who wait. p.mu is held.
func (p *Processors) grant() {
	for len(p.queue) > 0 && p.taken < p.turns() {
		p.give()
	}
}

// give gives a turn to the first who waits.
func (p *Processors) give() {
	close(p.queue[0])
	p.queue = slices.Delete(p.queue, 0, 1)
	p.waiting.Add(-1)
	p.taken++
	p.given = p.now()
}

// rescue gives one turn more than there are if none was given for too long. p.mu is held.
func (p *Processors) rescue() {
	over := min(max(p.taken-max(p.turns(), 0), 0), doublings)
	if len(p.queue) > 0 && p.now()-p.given >= patience<<over {
		p.give()
	}
}

// Do runs f in a turn, which f yields from time to time. It fails if ctx ends before f begins.
func (p *Processors) Do(ctx context.Context, f func(t *Turn)) error {
	t := &Turn{of: p}
	if err := t.take(ctx); err != nil {
		return err
	}
	defer t.Done()
	if p == nil || p.lanes == nil {
		f(t)
		return nil
	}
	p.lanes.run(func() { f(t) })
	return nil
}

// Turn is a time on one processor. It is not safe for concurrent use.
type Turn struct {
	of    *Processors
	since time.Duration // when it was taken or last looked at by Yield, since epoch
	held  bool
}

func (t *Turn) take(ctx context.Context) error {
	p := t.of
	if p == nil {
		return ctx.Err()
	}
	p.mu.Lock()
	if len(p.queue) == 0 && p.taken < p.turns() {
		p.taken++
		p.given = p.now()
		p.mu.Unlock()
	} else if err := p.wait(ctx); err != nil { // it unlocks
		return err
	}
	t.held, t.since = true, p.now()
	return nil
}

// wait waits in the queue. It is called with p.mu held, which it releases.
func (p *Processors) wait(ctx context.Context) error {
	mine := make(chan struct{})
	p.queue = append(p.queue, mine)
	p.waiting.Add(1)
	p.grant() // requests may have ended before they could know that somebody waits
	p.mu.Unlock()
	again := time.NewTicker(patience)
	defer again.Stop()
	for {
		select {
		case <-mine:
			return nil
		case <-again.C:
			p.mu.Lock()
			p.grant()
			p.rescue()
			p.mu.Unlock()
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			if i := slices.Index(p.queue, mine); i >= 0 {
				p.queue = slices.Delete(p.queue, i, i+1)
				p.waiting.Add(-1)
			} else { // it was given just now
				p.taken--
				p.grant()
			}
			return ctx.Err()
		}
	}
}

// Yield gives the turn up and waits for another, if the turn has lasted for a while and
// requests or other work need it. Call it about every 100 µs of work. It returns at once when
// ctx ends; the turn is over then.
func (t *Turn) Yield(ctx context.Context) {
	p := t.of
	if !t.held {
		return
	}
	now := p.now()
	if now-t.since < slice {
		return
	}
	if t.since = now; p.pressed() {
		t.Done()
		_ = t.take(ctx) // who has no turn any more is to end anyway
	}
}

// Rest gives the turn up while f runs, which waits for something.
func (t *Turn) Rest(ctx context.Context, f func()) {
	t.Done()
	f()
	_ = t.take(ctx)
}

// pressed says whether turns are to be given up.
func (p *Processors) pressed() bool {
	return p.busy() || p.over()
}

// over says whether more turns are taken than there are, and somebody waits for one.
func (p *Processors) over() bool {
	if p.waiting.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken > p.turns()
}

// busy says whether requests need the processors that turns have.
func (p *Processors) busy() bool {
	if p.lanes != nil {
		return p.requests.Load() > int64(p.cores)
	}
	return p.lately()
}

// Done gives the turn back. It may be called again.
func (t *Turn) Done() {
	p := t.of
	if p == nil || !t.held {
		return
	}
	t.held = false
	p.mu.Lock()
	p.taken--
	p.grant()
	p.mu.Unlock()
}
