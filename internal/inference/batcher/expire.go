package batcher

import "time"

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
		b.lastLate = now
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
