package batcher

import "time"

// form makes a run of t, which leads, and of what goes with it. It returns nil
// if t turns out to be too late.
func (b *Batcher[T]) form(t *Task[T], now time.Duration) *run[T] {
	bk, queue, room := t.bucket, &b.bulk, b.limit
	switch {
	case t.Class == Online:
		queue, room = &b.online, b.trim(t.bucket, now)
		if t.bucket == nil {
			return nil
		}
	case b.onlineLately(now):
		room = b.briefly()
	}
	r := b.newRun()
	room -= b.take(r, t)
	for !b.cfg.Solo && bk.tasks.len() > 0 {
		next := bk.tasks.head()
		if r.rows >= b.enough || next.rows() > room || next.Bucket != t.Bucket {
			break
		}
		if r.rows+next.Rows > b.enough && next.Rows > r.rows {
			break // a small request is not to wait for a large one
		}
		if t.light && !next.light && b.slows(r.rows, next.Rows) && b.forgo(b.apart(r.rows), now) {
			break
		}
		room -= b.take(r, next)
	}
	if queue == &b.online {
		b.fill(r, t.Bucket, now)
	}
	return r
}

// slows says that a run noticeably takes longer with more rows.
func (b *Batcher[T]) slows(rows, more int) bool {
	k := len(b.runs)
	return float64(b.cost.Estimate(rows+more, k)) > noticeable*float64(b.cost.Estimate(rows, k))
}

// apart returns how much more run time some rows take by themselves than in a full run.
func (b *Batcher[T]) apart(rows int) time.Duration {
	k, full := len(b.runs), max(b.enough, rows)
	return max(b.cost.Estimate(rows, k)+b.cost.Estimate(full-rows, k)-b.cost.Estimate(full, k), 0)
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

// fill adds bulk work to a run as far as it is all but free by the table, and makes no online
// task, in the run or behind it, miss its deadline.
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
// refused rather than served by a smaller one: small runs make everyone behind
// them later, and then the next head needs an even smaller one.
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
		if less := b.cost.largestWithin(slack, n, others); less >= head.rows() && b.leisure(n, less, now) {
			return less
		}
		b.refused.Late++
		b.lastLate = now
		b.refuse(head, errOverloaded(full, slack))
	}
	return 0
}

// leisure reports whether there is time to split a run in two for the sake of a head with an
// unusually early deadline: no task has been late for a while, and none will be for this.
func (b *Batcher[T]) leisure(rows, first int, now time.Duration) bool {
	others := len(b.runs)
	extra := b.cost.P95(first, others) + b.cost.P95(rows-first, others) - b.cost.P95(rows, others)
	return now-b.lastLate > lateMemory*b.cfg.SLO &&
		b.demand.fits(now, now-b.demand.width, b.residual(now), extra, b.parallel)
}

// lateMemory is how many SLOs without a late task make a leisurely time.
const lateMemory = 4
