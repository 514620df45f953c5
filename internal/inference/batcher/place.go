package batcher

// enqueue puts an admitted task into its queue.
func (b *Batcher[T]) enqueue(t *Task[T]) {
	if t.Class == Bulk {
		b.bulk.push(t, b.bucketID(t))
		return
	}
	b.online.push(t, b.bucketID(t))
	if t.due < never {
		b.byDue.push(t.due, t)
	}
	b.demand.add(t.key, t.work)
	b.tenants.enter(t)
}

// dequeue takes a queued task out of its queue. If it was to lead, nobody leads any more.
func (b *Batcher[T]) dequeue(t *Task[T]) {
	if b.leader == t {
		b.leader = nil
	}
	if t.Class == Bulk {
		b.bulk.remove(t)
		t.tenant = nil
		return
	}
	b.online.remove(t)
	if t.due < never {
		b.byDue.remove(t)
	}
	b.demand.add(t.key, -t.work)
	b.tenants.leave(t)
}

// bucketID returns the bucket to queue t in.
func (b *Batcher[T]) bucketID(t *Task[T]) uint64 {
	if b.cfg.Explicit.PreserveOrdering {
		return 0 // one line for all; a run ends where the bucket changes
	}
	return t.Bucket
}

// refuse settles a queued task with err.
func (b *Batcher[T]) refuse(t *Task[T], err error) {
	b.dequeue(t)
	t.err = err
	t.wake <- settled
	b.settle(1)
}
