package batcher

import (
	"cmp"
	"slices"
	"time"
)

// form makes a run of t, which leads, and of what goes with it. It returns nil
// if t turns out to be too late.
func (b *Batcher[T]) form(t *Task[T], now time.Duration) *run[T] {
	bk, queue, room := t.bucket, &b.bulk, b.limit
	if t.Class == Online {
		queue, room = &b.online, b.trim(t.bucket, now)
		if t.bucket == nil {
			return nil
		}
	}
	r := b.newRun()
	room -= b.take(r, t)
	for !b.cfg.Solo && bk.tasks.len() > 0 {
		next := bk.tasks.head()
		if next.rows() > room || next.Bucket != t.Bucket {
			break
		}
		room -= b.take(r, next)
	}
	if queue == &b.online {
		b.fill(r, t.Bucket, now)
	}
	return r
}

// take moves a task from its queue into r and returns the room it takes up.
func (b *Batcher[T]) take(r *run[T], t *Task[T]) int {
	b.dequeue(t)
	if t.Class == Bulk {
		b.tenants.passed(t.key)
	}
	t.run = r
	r.batch = append(r.batch, t)
	r.rows += t.Rows
	return t.rows()
}

// fill adds bulk work to a run where the table says that it is all but free
// and that no online deadline, in the run or behind it, is missed for it.
func (b *Batcher[T]) fill(r *run[T], id uint64, now time.Duration) {
	if !b.pays || b.cfg.Explicit.PreserveOrdering || b.bulk.tasks == 0 {
		return
	}
	bk := b.bulk.byID[id]
	if bk == nil || bk.tasks.len() == 0 {
		return
	}
	room, until := min(b.knee, b.limit), never
	for _, t := range r.batch {
		room -= t.rows()
		until = min(until, t.due)
	}
	if b.byDue.len() > 0 {
		until = min(until, b.byDue.head().due-b.cost.P95(b.limit, len(b.runs)))
	}
	for bk.tasks.len() > 0 {
		next := bk.tasks.head()
		if next.rows() > room || now+b.cost.P95(r.rows+next.Rows, len(b.runs))+b.wakeLag > until {
			return
		}
		room -= b.take(r, next)
	}
}

// trim returns how many rows of the bucket to run now, at least those of its
// head; 0 if no task is left. Heads that would be late in a full run are
// refused rather than served by a smaller one, which would make everyone
// behind them later still, unless there is time enough for a smaller run too.
func (b *Batcher[T]) trim(bk *bucket[T], now time.Duration) int {
	others := len(b.runs)
	for bk.tasks.len() > 0 {
		head := bk.tasks.head()
		if b.cfg.Explicit.windowed() {
			return b.windowRows(bk)
		}
		n := max(min(bk.rows, b.limit), head.rows())
		if head.probe || b.cfg.Explicit.timeouts() {
			return n
		}
		slack := head.due - now - b.wakeLag
		full := b.cost.P95(n, others)
		if full <= slack {
			return n
		}
		if less := b.cost.largestWithin(slack, n, others); less >= head.rows() {
			extra := b.cost.P95(less, others) + b.cost.P95(n-less, others) - full
			if b.demand.fits(now, now-b.demand.width, b.residual(now), extra, b.parallel) {
				return less
			}
		}
		b.refused.Late++
		b.refuse(head, errOverloaded(full, slack))
	}
	return 0
}

// prune refuses tasks that cannot be in time any more, wherever they queue.
func (b *Batcher[T]) prune(now time.Duration) {
	for b.byDue.len() > 0 {
		t := b.byDue.head()
		if b.lastChance(t) > now {
			return
		}
		if b.cfg.Explicit.TimeoutDelay {
			b.postpone(t)
			continue
		}
		b.refused.Expired++
		b.refuse(t, errTimeout(now-t.arrived, b.backlog(now)))
	}
}

// lastChance returns the first instant at which it is too late to start t.
func (b *Batcher[T]) lastChance(t *Task[T]) time.Duration {
	if t.probe || b.cfg.Explicit.timeouts() {
		return t.due
	}
	return min(t.due-b.cost.Estimate(t.rows(), 0)+1, t.due)
}

// postpone lets a task that has timed out wait until all others are done.
func (b *Batcher[T]) postpone(t *Task[T]) {
	if t == b.leader { // runs now, so stays in its place
		b.byDue.remove(t)
		t.due = never
		return
	}
	b.dequeue(t)
	t.tenant = b.tenants.get(t.Tenant)
	t.due, t.key = never, never+t.arrived
	b.enqueue(t)
}

// pick returns the bucket to serve: the one whose head is due first, as long
// as all heads can be served in that order; else, in overload, the one that
// gets the most rows done in time per second.
func (b *Batcher[T]) pick(now time.Duration) *bucket[T] {
	q := &b.online
	switch {
	case len(q.active) == 1:
		return q.active[0]
	case b.cfg.Explicit.windowed():
		return b.windowPick(now)
	case b.cfg.Explicit.timeouts() || b.cfg.Explicit.PreserveOrdering || b.planHolds(now):
		return q.earliest()
	}
	best, bestRate := q.earliest(), 0.0
	for _, bk := range q.active {
		if rate := b.inTime(bk, now); rate > bestRate*1.05 || rate >= bestRate && bk.tasks.nodes[0].before(best.tasks.nodes[0]) {
			best, bestRate = bk, rate
		}
	}
	return best
}

// planned is how many buckets the plan looks at: it is made for each run.
const planned = 16

// planHolds says whether serving the buckets by their heads' deadlines, in
// full runs, keeps those deadlines.
func (b *Batcher[T]) planHolds(now time.Duration) bool {
	var order [planned]*bucket[T]
	heads := order[:copy(order[:], b.online.active)]
	slices.SortFunc(heads, func(x, y *bucket[T]) int {
		return cmp.Compare(x.tasks.nodes[0].key, y.tasks.nodes[0].key)
	})
	start := now + b.wakeLag
	for _, bk := range heads {
		c := b.cost.P95(min(bk.rows, b.limit), b.parallel-1)
		if start+c > bk.tasks.head().due {
			return false
		}
		start += c / time.Duration(b.parallel)
	}
	return true
}

// inTime returns how many rows per nanosecond of run time a run of the bucket
// would get done by their deadlines.
func (b *Batcher[T]) inTime(bk *bucket[T], now time.Duration) float64 {
	others := len(b.runs)
	end := now + b.wakeLag + b.cost.P95(min(bk.rows, b.limit), others)
	rows := 0
	for _, n := range bk.tasks.nodes {
		if n.t.due >= end {
			rows += n.t.rows()
		}
	}
	rows = min(rows, b.limit)
	return float64(rows) / float64(b.cost.P95(max(rows, 1), others)+1)
}
