package batcher

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// run is one run in progress. It is reused for later runs.
type run[T any] struct {
	batch []*Task[T]
	rows  int
	bulk  bool // nobody waits for it
	at    int  // in Batcher.runs

	yields      bool // it was told to end, for another
	undisturbed bool // none but light tasks' runs begin beside it

	start   time.Duration
	end     time.Duration   // predicted
	busy    time.Duration   // Batcher.busyTime at its start
	ctx     context.Context //nolint:containedctx // of the run itself, reused by later ones
	cancel  context.CancelFunc
	members int             // still interested
	leader  context.Context //nolint:containedctx // its leader's, until it is watched; nil if that never ends
	unwatch func() bool     // stops watching; nil unless it is watched late
	serial  uint64
	err     error
}

// watchFrom is the predicted length from which on a run is watched for its leader's
// cancellation from its start; a shorter one is watched once it has taken as long. The other
// members notice theirs while they wait. The run always has a context of its own, mostly
// that of the run before, so that whoever watches it can keep doing so.
const watchFrom = time.Millisecond

// leadFor forms a batch with t in it and runs it. It is called with b.mu held
// and releases it. When it returns t may be settled, or may have lost its
// place: its wake channel tells.
func (b *Batcher[T]) leadFor(ctx context.Context, t *Task[T]) {
	if b.company() && b.pays && t.Class == Online && !b.gather(t) {
		b.mu.Unlock()
		return
	}
	now := b.now()
	r := b.form(t, now)
	b.leader = nil
	if r == nil { // t came too late
		b.offer(now, nil)
		b.mu.Unlock()
		return
	}
	b.begin(r, now)
	b.offer(now, nil)                                       // another executor may be free for the rest
	watch := r.end-r.start >= watchFrom || r.end == r.start // of unknown length
	if !watch && ctx.Done() != nil {
		r.leader = ctx
		b.setAlarm(now + watchFrom)
	}
	b.mu.Unlock()
	b.execute(ctx, r, watch)
}

// maxYields bounds how often a leader lets others go first.
const maxYields = 8

// gather takes along what is about to be submitted: where others have been
// around lately, those that are ready to run go first, for as long as that
// brings rows that make the run more efficient. It is called with b.mu held,
// which it lets go meanwhile, and reports whether t still leads.
func (b *Batcher[T]) gather(t *Task[T]) bool {
	for range maxYields {
		rows := t.bucket.rows
		if rows >= b.knee {
			break
		}
		b.mu.Unlock()
		runtime.Gosched()
		b.mu.Lock()
		if b.leader != t {
			return false
		}
		if t.bucket.rows == rows {
			break
		}
	}
	return true
}

// execute runs r and settles its members, whatever the RunFunc does.
func (b *Batcher[T]) execute(ctx context.Context, r *run[T], watch bool) {
	stop := func() bool { return true }
	if watch && ctx.Done() != nil {
		serial := r.serial
		stop = context.AfterFunc(ctx, func() { b.abandon(r, serial) })
	}
	returned := false // stays false through a panic, and through runtime.Goexit
	defer func() {
		if !returned {
			r.err = errPanicked(recover(), debug.Stack())
		}
		stop()
		b.finish(r, returned)
	}()
	r.err = b.exec(r.ctx, r.batch)
	returned = true
}

// watchLate watches the runs that take longer than predicted, and sets the alarm for the
// others. It is called with b.mu held.
func (b *Batcher[T]) watchLate(now time.Duration) {
	for _, r := range b.runs {
		switch {
		case r.leader == nil:
		case now < r.start+watchFrom:
			b.setAlarm(r.start + watchFrom)
		default:
			b.watch(r)
		}
	}
}

func (b *Batcher[T]) watch(r *run[T]) {
	serial := r.serial
	r.unwatch = context.AfterFunc(r.leader, func() { b.abandon(r, serial) })
	r.leader = nil
}

// finish ends r: it learns from it, hands the executor on, and settles.
func (b *Batcher[T]) finish(r *run[T], returned bool) {
	b.mu.Lock()
	now := b.now()
	b.end(r, now, returned)
	if r.yields && returned {
		b.again(r)
	}
	for _, t := range r.batch {
		t.run, t.ended = nil, now
		t.timing = Timing{Queue: r.start - t.arrived, Run: now - r.start, Rows: r.rows}
		if t.err = r.err; t.Err != nil && returned {
			t.err = t.Err
		}
	}
	b.offer(now, nil)
	b.mu.Unlock()

	for i, t := range r.batch {
		r.batch[i] = nil
		t.wake <- settled
	}
	b.mu.Lock()
	b.settle(len(r.batch))
	r.batch = r.batch[:0]
	b.spare = append(b.spare, r)
	b.mu.Unlock()
}

// begin books r as running.
func (b *Batcher[T]) begin(r *run[T], now time.Duration) {
	b.accrue(now)
	others := len(b.runs)
	b.trials.began(others >= b.parallel)
	r.start, r.end = now, now+b.cost.Estimate(max(r.rows, 1), others)
	r.busy, r.members, r.err, r.yields = b.busyTime, len(r.batch), nil, false
	r.undisturbed = b.undisturbed(r, now)
	r.serial++
	r.at = others
	b.runs = append(b.runs, r)
	if r.bulk = r.batch[0].Class == Bulk; r.bulk {
		b.bulks++
	}
	b.rows += r.rows
}

// end books r as ended.
func (b *Batcher[T]) end(r *run[T], now time.Duration, returned bool) {
	b.accrue(now)
	last := b.runs[len(b.runs)-1]
	b.runs[r.at], last.at = last, r.at
	b.runs[len(b.runs)-1] = nil
	b.runs = b.runs[:len(b.runs)-1]
	if r.bulk {
		b.bulks--
	}
	b.rows -= r.rows
	b.ended++
	if returned && r.err == nil && r.members > 0 && !r.yields && !(r.bulk && b.onlineLately(now)) { // bulk work may have been slowed down
		b.learn(r, now)
	}
	if r.ctx != nil && r.ctx.Err() != nil {
		r.ctx, r.cancel = nil, nil // used up
	}
	if r.leader = nil; r.unwatch != nil {
		r.unwatch()
		r.unwatch = nil
	}
	r.serial++ // a late abandon is not meant for the next run
}

// abandon notes that a member has gone. b.mu is held.
func (r *run[T]) abandon() {
	if r.members--; r.members == 0 && r.cancel != nil {
		r.cancel()
	}
}

// abandon is run.abandon for a leader, who cannot wait for its context while
// it runs.
func (b *Batcher[T]) abandon(r *run[T], serial uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.serial == serial {
		r.abandon()
	}
}

// newRun returns a run to fill. Its context is made once, and reused by later
// runs for as long as it lives.
func (b *Batcher[T]) newRun() *run[T] {
	var r *run[T]
	if n := len(b.spare); n > 0 {
		r, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		r = &run[T]{batch: make([]*Task[T], 0, b.cfg.MaxRows)}
	}
	if r.ctx == nil {
		r.ctx, r.cancel = context.WithCancel(context.Background()) // #nosec G118 -- kept for later runs; abandon cancels it
	}
	r.rows = 0
	return r
}
