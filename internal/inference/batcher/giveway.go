package batcher

import "time"

// A run that has begun gives way to a light tenant's task that would have to wait for
// it: it is told to end, and what was in it is run again. What that costs is bounded:
// nothing is interrupted often, nor where it would be late for it.
const (
	worthIt = 1.1 // times as late as by itself: what a light task does not wait for
	dear    = 4   // times as much in vain as a light task would wait, that it is not worth
	often   = 3   // times that a task's run is interrupted at most
	waited  = 0.5 // of a light task's run: who has waited for longer runs undisturbed
	most    = 0.1 // of the run time there is: what may be forgone for such tasks
)

// giveWay interrupts the run that has begun last where that has a light task, which is
// next and waits for an executor, answered noticeably earlier.
func (b *Batcher[T]) giveWay(now time.Duration) {
	if b.online.tasks == 0 || len(b.runs) < min(b.parallel, b.cfg.Executors) || b.cfg.Explicit.windowed() {
		return
	}
	t := b.online.earliest().tasks.head()
	own := float64(b.cost.P95(t.rows(), b.parallel-1))
	if !t.light || float64(b.firstEnd(now)-now) < (worthIt-1)*own {
		return
	}
	var last *run[T]
	for _, r := range b.runs {
		if r.yields {
			return // t is next, once that one ends
		}
		if b.mayYield(r, t, now) && (last == nil || r.start > last.start) {
			last = r
		}
	}
	if last == nil || now-last.start > dear*(last.end-now) || !b.forgo(now-last.start, now) {
		return
	}
	b.interrupted++
	last.yields = true
	last.cancel()
}

// mayYield says that all in a run may run again, after t: their turn would come after its
// own, none has yielded too often, and there is time for it.
func (b *Batcher[T]) mayYield(r *run[T], t *Task[T], now time.Duration) bool {
	again := now + 4*b.cost.P95(max(r.rows, 1), b.parallel-1) + b.wakeLag
	for _, m := range r.batch {
		if m.Class == Bulk || m.yielded == often || m.key <= t.key || m.due < again {
			return false
		}
	}
	return true
}

// forgo reports whether light tasks are worth that much run time that nobody has anything of,
// and counts it.
func (b *Batcher[T]) forgo(d, now time.Duration) bool {
	forgone := b.forgone.fade(now, b.cfg.SLO) + d
	if float64(forgone) > most*float64(b.cfg.SLO)*float64(b.parallel) {
		return false
	}
	b.forgone.work = forgone
	return true
}

// undisturbed decides whether no others' run is to begin beside one, which is about to begin itself: where a light task
// leads it that has waited for long, and takes noticeably longer beside others. What that costs is what an
// executor does meanwhile that nobody has, less what the run itself is shorter.
func (b *Batcher[T]) undisturbed(r *run[T], now time.Duration) bool {
	lead := r.batch[0]
	if !lead.light || b.cfg.Explicit.windowed() {
		return false
	}
	own, beside := b.cost.Estimate(r.rows, 0), b.cost.Estimate(r.rows, b.parallel-1)
	if float64(now-lead.arrived) < waited*float64(own) || float64(beside) <= worthIt*float64(own) {
		return false
	}
	idle := own
	if len(b.runs) > 0 {
		idle = max(now+own-b.firstEnd(now), 0)
	}
	return b.forgo(max(time.Duration(b.parallel-1)*idle-(beside-own), 0), now)
}

// keptOut returns from when a run of the bucket may begin for runs that are to be undisturbed: once those were to
// end, or in time for its head.
func (b *Batcher[T]) keptOut(bk *bucket[T], now time.Duration) time.Duration {
	until, head := now, bk.tasks.head()
	for _, r := range b.runs {
		if r.undisturbed && !head.light {
			until = max(until, r.end)
		}
	}
	if until == now {
		return now
	}
	latest := head.due - b.cost.P95(min(bk.rows, b.limit), len(b.runs)) - b.wakeLag
	return max(min(until, latest), now)
}

// again puts the members of an interrupted run that did not come to their end back into
// the queue, and keeps the others: those, and whoever has gone, are settled.
func (b *Batcher[T]) again(r *run[T]) {
	settled := r.batch[:0]
	for _, t := range r.batch {
		if r.err == nil && t.Err == nil || t.gone {
			settled = append(settled, t)
			continue
		}
		t.run, t.Err = nil, nil
		t.yielded++
		t.tenant = b.tenants.get(t.Tenant)
		b.enqueue(t)
	}
	clear(r.batch[len(settled):])
	r.batch = settled
}
