package batcher

import "time"

// A run that has begun gives way to a light tenant's task that would have to wait for it:
// it is told to end, and its tasks run again. The cost of that is bounded: no task is
// interrupted often, none that would be late then, and only little run time is lost.
const (
	noticeable       = 1.1 // times its time alone: a light task is not held up beyond that
	maxWaste         = 4   // times the wait that it saves: an interruption wastes no more run time
	maxInterruptions = 3   // of a task
	longWait         = 0.5 // times its run: a light task that has waited longer runs undisturbed
	maxForgone       = 0.1 // of all run time: what may be lost for light tasks
)

// giveWay interrupts the run that began last if a light task, which is next and waits for an
// executor, is answered noticeably earlier for it.
func (b *Batcher[T]) giveWay(now time.Duration) {
	if b.online.tasks == 0 || len(b.runs) < min(b.parallel, b.cfg.Executors) || b.cfg.Explicit.windowed() {
		return
	}
	t := b.online.earliest().tasks.head()
	own := float64(b.cost.P95(t.rows(), b.parallel-1))
	if !t.light || float64(b.firstEnd(now)-now) < (noticeable-1)*own {
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
	if last == nil || now-last.start > maxWaste*(last.end-now) || !b.forgo(now-last.start, now) {
		return
	}
	b.interrupted++
	last.yields = true
	last.cancel()
}

// mayYield reports whether all tasks of a run may run again after t: they come after it in
// order, none was interrupted too often, and there is time.
func (b *Batcher[T]) mayYield(r *run[T], t *Task[T], now time.Duration) bool {
	again := now + 4*b.cost.P95(max(r.rows, 1), b.parallel-1) + b.wakeLag
	for _, m := range r.batch {
		if m.Class == Bulk || m.yielded == maxInterruptions || m.key <= t.key || m.due < again {
			return false
		}
	}
	return true
}

// forgo reports whether so much run time may be lost for light tasks, and counts it if so.
func (b *Batcher[T]) forgo(d, now time.Duration) bool {
	forgone := b.forgone.fade(now, b.cfg.SLO) + d
	if float64(forgone) > maxForgone*float64(b.cfg.SLO)*float64(b.parallel) {
		return false
	}
	b.forgone.work = forgone
	return true
}

// undisturbed decides whether no run but those of light tasks is to begin beside one that is
// about to begin: if its leader is a light task that has waited for long, and the run takes
// noticeably longer beside others. The cost is the time that the other executors idle, less
// what the run itself gains.
func (b *Batcher[T]) undisturbed(r *run[T], now time.Duration) bool {
	lead := r.batch[0]
	if !lead.light || b.cfg.Explicit.windowed() {
		return false
	}
	own, beside := b.cost.Estimate(r.rows, 0), b.cost.Estimate(r.rows, b.parallel-1)
	if float64(now-lead.arrived) < longWait*float64(own) || float64(beside) <= noticeable*float64(own) {
		return false
	}
	idle := own
	if len(b.runs) > 0 {
		idle = max(now+own-b.firstEnd(now), 0)
	}
	return b.forgo(max(time.Duration(b.parallel-1)*idle-(beside-own), 0), now)
}

// keptOut returns from when on a run of the bucket may begin beside runs that are to be
// undisturbed: when those should have ended, or in time for its head.
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

// again puts the tasks of an interrupted run that have no outcome back into the queue. Those
// that have one, or whose submitters have gone, stay in the batch and are settled.
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
