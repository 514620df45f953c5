package batcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/platform/spare"
)

// Batcher runs tasks in batches. It is safe for concurrent use.
//
// It has no goroutines of its own: submitters do the work. One that finds an
// executor free, and a run worth starting, becomes the leader, forms a batch
// and runs it in its own goroutine; when it is done it wakes the members, and
// a waiting submitter to lead the next run, and goes home with its answer.
// There is at most one leader forming a batch at any time, and every leader's
// own task is in its batch.
type Batcher[T any] struct {
	exec  RunFunc[T]
	cfg   Config
	cost  *Cost
	epoch time.Time

	drained chan struct{} // closed once draining and nothing is pending
	shed    atomic.Int64  // when a task was last refused on arrival

	mu      sync.Mutex // guards all below
	seq     uint64
	online  queue[T]
	bulk    queue[T]
	byDue   heap[T] // online tasks that can expire
	demand  demand  // of online tasks
	tenants tenants[T]

	lastLight   time.Duration // when a task of a light tenant was last accepted
	forgone     usage         // run time that was for such
	interrupted uint64        // runs that gave way to such

	leader  *Task[T]  // forms the next batch, or has been woken to
	runs    []*run[T] // in progress
	spare   []*run[T] // for reuse
	bulks   int       // of runs: those that nobody waits for
	rows    int       // in progress
	ended   uint64    // runs
	refused Refused

	pending  int // accepted and not settled
	draining bool

	tuning
	clock
	alarm
}

// New returns a batcher that runs batches with exec.
func New[T any](exec RunFunc[T], cfg Config) (*Batcher[T], error) {
	cfg, err := cfg.settle()
	if err != nil {
		return nil, err
	}
	b := &Batcher[T]{
		exec: exec, cfg: cfg, cost: cfg.Cost, epoch: time.Now(),
		drained: make(chan struct{}),
		online:  newQueue[T](), bulk: newQueue[T](),
		byDue:     heap[T]{which: byDue},
		demand:    newDemand(cfg.SLO * time.Duration(min(max(cfg.Explicit.PriorityLevels, 1), maxLevels))),
		tenants:   newTenants[T](cfg.SLO),
		lastLight: -never,
		clock:     clock{optimism: quantile{value: 1}, gap: cfg.SLO, lastArrival: -never},
		alarm:     alarm{at: never},
	}
	b.shed.Store(int64(-never))
	b.tune()
	return b, nil
}

// now returns the time since the batcher was made: all its times are such.
func (b *Batcher[T]) now() time.Duration { return time.Since(b.epoch) }

// Submit waits for a run with t in it and returns t's own outcome. It returns
// exactly once, and afterwards the batcher has no reference to t.
//
// A task is refused at once, with fault.Unavailable and a retry hint, when it
// would be late or the queue is full; it leaves the queue when its deadline
// passes or ctx ends. Once its run has started Submit returns only when the
// run has ended, because the run may use the task's memory; the run's context
// ends early when no member is left waiting.
func (b *Batcher[T]) Submit(ctx context.Context, t *Task[T]) (Timing, error) {
	if t.Rows < 0 || t.Rows > b.cfg.MaxRows {
		return Timing{}, errTooManyRows(t.Rows, b.cfg.MaxRows)
	}
	if ctx.Err() != nil {
		return Timing{}, errCancelled(ctx, "before it was queued")
	}
	if t.wake == nil {
		t.wake = make(chan signal, 2)
	}
	t.Err, t.err, t.timing, t.ended = nil, nil, Timing{}, 0
	own := b.deadline(ctx, t)

	b.mu.Lock()
	now := b.now()
	t.arrived, t.due = now, never
	if t.Class == Online {
		began := now
		if !t.Since.IsZero() {
			began = min(t.Since.Sub(b.epoch), now)
		}
		t.due = b.cfg.due(began, own)
		b.arrival(now)
	}
	if err := b.admit(t, now); err != nil {
		b.mu.Unlock()
		return Timing{}, err
	}
	b.enqueue(t)
	if b.offer(now, t); b.leader == t {
		b.leadFor(ctx, t) // unlocks
	} else {
		b.mu.Unlock()
	}
	return b.await(ctx, t)
}

// deadline returns the task's own deadline, from its field and its context.
func (b *Batcher[T]) deadline(ctx context.Context, t *Task[T]) time.Duration {
	own := never
	if !t.Deadline.IsZero() {
		own = t.Deadline.Sub(b.epoch)
	}
	if d, ok := ctx.Deadline(); ok {
		own = min(own, d.Sub(b.epoch))
	}
	return own
}

// await waits for t's outcome, and leads a run when it is asked to.
func (b *Batcher[T]) await(ctx context.Context, t *Task[T]) (Timing, error) {
	done := ctx.Done()
	for {
		var s signal
		if t.Class == Bulk && len(t.wake) == 0 {
			spare.Pause(ctx) // others compute meanwhile
		}
		if done == nil {
			s = <-t.wake
		} else {
			select {
			case s = <-t.wake:
			case <-done:
				if b.leave(t) {
					return Timing{}, errCancelled(ctx, "in the queue")
				}
				done = nil
				continue
			}
		}
		if s == settled {
			return b.outcome(ctx, t)
		}
		b.mu.Lock()
		if b.leader == t {
			if t.Class == Bulk {
				spare.Resume(ctx) // an executor waits for this one
			}
			b.leadFor(ctx, t) // unlocks
		} else {
			b.mu.Unlock() // the task has been settled meanwhile
		}
	}
}

// outcome returns what t, which is settled, came to.
func (b *Batcher[T]) outcome(ctx context.Context, t *Task[T]) (Timing, error) {
	ran := t.ended > 0
	if ran && t.seq%wakeSample == 0 {
		b.mu.Lock()
		b.wokenAfter(b.now() - t.ended)
		b.mu.Unlock()
	}
	if t.err != nil && ran && ctx.Err() != nil {
		return t.timing, errCancelled(ctx, "while it ran")
	}
	return t.timing, t.err
}

// leave takes t, whose submitter is no longer interested, out of the queue and
// reports whether it was there. A run without interested members is told so.
func (b *Batcher[T]) leave(t *Task[T]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.bucket != nil:
		b.dequeue(t)
		for len(t.wake) > 0 {
			<-t.wake // it was asked to lead
		}
		b.refused.Cancelled++
		b.offer(b.now(), nil)
		b.settle(1)
		return true
	case t.run != nil:
		t.gone = true
		t.run.abandon()
	}
	return false
}

// settle counts accepted tasks that have got their outcome. b.mu is held.
func (b *Batcher[T]) settle(n int) {
	b.pending -= n
	b.checkDrained()
}

// Drain refuses new tasks and waits until every accepted one has settled, or
// until ctx ends. It may be called again.
func (b *Batcher[T]) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.draining = true
	b.checkDrained()
	b.mu.Unlock()
	select {
	case <-b.drained:
		return nil
	case <-ctx.Done():
		return errCancelled(ctx, "while draining")
	}
}

// checkDrained tells those who wait in Drain when nothing is left.
func (b *Batcher[T]) checkDrained() {
	if !b.draining || b.pending > 0 {
		return
	}
	select {
	case <-b.drained: // said already
	default:
		b.silence()
		close(b.drained)
	}
}

// Stats returns a snapshot for metrics.
func (b *Batcher[T]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{
		Queued: b.online.tasks, QueuedBulk: b.bulk.tasks, Pending: b.pending,
		Running: len(b.runs), RunningRows: b.rows, Runs: b.ended, Interrupted: b.interrupted, Refused: b.refused,
	}
}
