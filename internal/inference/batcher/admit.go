package batcher

import "time"

// admit decides whether t, which has just arrived, may wait. It gives it its
// place in the order and counts it as pending, or returns the refusal.
func (b *Batcher[T]) admit(t *Task[T], now time.Duration) error {
	if b.draining {
		b.refused.Draining++
		return errDraining()
	}
	b.seq++
	t.seq, t.work, t.guess = b.seq, 0, 0
	t.probe, t.light, t.yielded, t.gone = false, false, 0, false
	t.tenant = b.tenants.get(t.Tenant)
	if t.Class == Bulk {
		t.key = b.tenants.stamp(t.tenant, b.price(t.rows()))
		b.pending++
		return nil
	}
	if t.due <= now {
		b.refused.Expired++
		return errTimeout(0, b.cfg.SLO)
	}
	t.key = b.key(t)
	if err := b.admitOnline(t, now); err != nil {
		return err
	}
	t.tenant.edge = 0
	b.tenants.charge(t.tenant, t.work, now)
	b.pending++
	return nil
}

// key returns a task's place in the order of service: the earliest deadline
// first or, with explicit queue settings, first come first served. A level of
// priority counts as one SLO of later arrival, so that a level is strictly
// preferred and yet nothing waits for ever.
func (b *Batcher[T]) key(t *Task[T]) time.Duration {
	key := t.due
	if x := b.cfg.Explicit; x.timeouts() || x.PreserveOrdering {
		key = t.arrived + b.cfg.SLO
	}
	return key + time.Duration(b.cfg.Explicit.level(t.Priority))*b.cfg.SLO
}

func (b *Batcher[T]) admitOnline(t *Task[T], now time.Duration) error {
	b.share(now)
	waiting := 0
	if bk := b.online.byID[b.bucketID(t)]; bk != nil {
		waiting = bk.rows
	}
	t.work = b.added(t.rows(), waiting)
	if b.online.tasks >= b.cfg.MaxQueue && !b.makePlace(t) {
		return b.queueFull(now)
	}
	if b.cfg.Explicit.timeouts() {
		return nil
	}
	if t.probe = len(b.runs) == 0 && b.leader == nil && b.online.tasks == 0; t.probe {
		// Nothing is in the way. If even so the table says that it will be
		// late, the run will show whether the table is right.
		t.guess = b.cost.P95(t.rows(), 0)
		b.advance(t, now)
		return nil
	}
	late := b.late(t, now, waiting)
	if late > 0 && b.makeRoom(t, late*time.Duration(b.parallel)) {
		late = b.late(t, now, waiting)
	}
	if late > 0 {
		t.tenant.edge = b.pressure(now, t.due)
		return b.tooLate(now, late, t.due)
	}
	return nil
}

// queueFull counts and returns a refusal for want of room.
func (b *Batcher[T]) queueFull(now time.Duration) error {
	b.refused.QueueFull++
	b.shed.Store(int64(now))
	return errQueueFull(b.cfg.MaxQueue, b.backlog(now))
}

// tooLate counts and returns the refusal of a task that would miss its deadline by
// so much.
func (b *Batcher[T]) tooLate(now, by, due time.Duration) error {
	b.refused.Late++
	b.lastLate = now
	b.shed.Store(int64(now))
	return errOverloaded(due-now+by, due-now)
}

// late is lateness that takes account of which tenants are light.
func (b *Batcher[T]) late(t *Task[T], now time.Duration, waiting int) time.Duration {
	key := t.key
	headroom := b.advance(t, now)
	if t.light {
		if late := b.ownLateness(t, now, waiting); late <= 0 { // the tasks behind it are of tenants that asked for more
			b.lastLight = now
			b.share(now)
			return late
		}
		t.light, t.key = false, key // behind what was accepted, then
	}
	if late := b.lateness(t, now, waiting); late > 0 || headroom == 0 {
		return late
	}
	return now + b.answered(t) - t.due + time.Duration(headroom*float64(t.due-now))
}

// advance moves a light tenant's task forward to its turn, and returns which part of the time
// of another's task is kept free for light tenants.
func (b *Batcher[T]) advance(t *Task[T], now time.Duration) (headroom float64) {
	t.light, headroom = b.tenants.standing(t.tenant, now, b.parallel)
	if t.light = t.light && !b.cfg.Explicit.PreserveOrdering; t.light {
		left := t.due - now
		t.key -= max(left-left/rush-b.tenants.turn(t.tenant, b.parallel), 0)
	}
	return headroom
}

// answered returns when t is expected to be answered, from its arrival.
func (b *Batcher[T]) answered(t *Task[T]) time.Duration {
	return time.Duration(float64(t.guess)*b.optimism.value) + b.wakeLag
}

// lateness predicts by how much t, or by its coming an accepted task, would
// miss its deadline; it is not positive if none would.
func (b *Batcher[T]) lateness(t *Task[T], now time.Duration, waiting int) time.Duration {
	if late := b.ownLateness(t, now, waiting); late > 0 {
		return late
	}
	if !b.demand.fits(now, t.key, b.residual(now), t.work, b.parallel) {
		return max(t.work, 1)
	}
	return 0
}

// ownLateness predicts by how much t would miss its deadline; it is not positive if it
// would not.
func (b *Batcher[T]) ownLateness(t *Task[T], now time.Duration, waiting int) time.Duration {
	ahead := b.demand.until(now, t.key)
	// The rows of its bucket that make no full run yet go in the same run.
	shared := waiting % b.limit
	if shared+t.rows() <= b.limit {
		ahead = max(ahead-b.price(shared), 0)
	} else {
		shared = 0
	}
	start := b.residual(now) + ahead/time.Duration(b.parallel)
	joining := b.joining(start) * (waiting + t.rows()) / (b.online.rows + t.rows())
	own := b.cost.P95(max(min(b.limit, shared+t.rows()+joining), t.rows()), b.parallel-1)
	t.guess = start + own
	return now + b.answered(t) - t.due
}

// residual returns how long until the executors are free, on average. A run
// that has overrun its forecast is expected to take as long again as it
// overran.
func (b *Batcher[T]) residual(now time.Duration) time.Duration {
	sum := time.Duration(0)
	for _, r := range b.runs {
		sum += max(r.end-now, now-r.end)
	}
	return sum / time.Duration(b.parallel)
}

// backlog returns how long the queue takes to be served.
func (b *Batcher[T]) backlog(now time.Duration) time.Duration {
	return b.residual(now) + b.demand.total/time.Duration(b.parallel)
}

// makePlace refuses the newest task of who has to give t's tenant a place, and
// reports whether it did.
func (b *Batcher[T]) makePlace(t *Task[T]) bool {
	from := b.tenants.giver(t.tenant)
	return from != nil && b.displace(from, t, 1)
}

// makeRoom refuses the newest tasks of the tenant with the most queued work
// until need is freed, if that leaves it with no less than t's tenant then
// has, and reports whether it did.
func (b *Batcher[T]) makeRoom(t *Task[T], need time.Duration) bool {
	most := b.tenants.heaviest()
	if most == nil || most == t.tenant || most.work-max(need, t.work) < t.tenant.work+t.work {
		return false
	}
	return b.displace(most, t, need)
}

// displace refuses the newest tasks of a tenant, but never the leader, until need
// is freed.
func (b *Batcher[T]) displace(most *tenant[T], t *Task[T], need time.Duration) bool {
	level := b.cfg.Explicit.level(t.Priority)
	for need > 0 {
		victim := most.last
		if victim != nil && victim == b.leader {
			victim = victim.prev
		}
		if victim == nil || b.cfg.Explicit.level(victim.Priority) < level {
			return false
		}
		need -= max(victim.work, 1)
		b.refused.Late++
		b.refuse(victim, errDisplaced(most.work/time.Duration(b.parallel)))
	}
	return true
}
