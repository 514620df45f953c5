package batcher

import "time"

// Foresee returns the refusal that Submit would have for an online task of the tenant whose
// caller's time began at since, or nil where the task may be accepted. Asking before the
// task is made pays in overload: reading a request can cost as much as answering it.
//
// It forecasts as Submit does, but for the luckiest task: a single row in a run that is
// queued anyway. If the tenant's last task was refused and the queue is hardly shorter
// since, it forecasts for one like that. Where priorities, timeouts or fairness might let a
// task in, it foresees nothing.
func (b *Batcher[T]) Foresee(tenant string, since time.Time) error {
	if b.now()-time.Duration(b.shed.Load()) > b.cfg.SLO || b.cfg.Explicit.timeouts() || b.cfg.Explicit.PriorityLevels > 0 {
		return nil // nothing was refused of late
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if len(b.runs) == 0 && b.leader == nil && b.online.tasks == 0 {
		return nil
	}
	own := b.tenants.get(tenant)
	if most := b.tenants.heaviest(); most != nil && most != own && most.work > own.work {
		return nil // the heaviest tenant's newest task may have to make room
	}
	if light, _ := b.tenants.standing(own, now, b.parallel); light {
		return nil
	}
	due := since.Sub(b.epoch) + b.cfg.SLO
	late := max(b.earliest(now, due)-due, b.likeLast(own, now, due))
	switch {
	case b.online.tasks >= b.cfg.MaxQueue && b.tenants.giver(own) == nil:
		b.arrival(now)
		return b.queueFull(now)
	case late > 0:
		b.arrival(now)
		return b.tooLate(now, late, due)
	}
	return nil
}

// earliest returns when a task of one row with this deadline is answered at best.
func (b *Batcher[T]) earliest(now, due time.Duration) time.Duration {
	ahead := max(b.demand.until(now, due)-b.price(b.limit-1), 0)
	guess := b.residual(now) + ahead/time.Duration(b.parallel) + b.cost.P95(1, b.parallel-1)
	return now + time.Duration(float64(guess)*b.optimism.value) + b.wakeLag
}

// likeLast returns by how much a task like the tenant's last one, if that was refused, would
// be late; it is not positive if it may be in time now. At twice the capacity the queue is
// always as long as it may be, and whenever a run begins the luckiest task would be in time:
// every request would be read only to find that others were faster. So after a refusal the
// tenant is refused until the queue is shorter by half a run, as long as it has work for
// two.
func (b *Batcher[T]) likeLast(tn *tenant[T], now, due time.Duration) time.Duration {
	full := b.price(b.limit)
	if tn.edge == 0 || b.demand.total < 2*full {
		return 0
	}
	return b.pressure(now, due) - tn.edge + full/time.Duration(2*b.parallel)
}

// pressure is how long the queue takes, plus what the time until due lacks of a whole SLO.
func (b *Batcher[T]) pressure(now, due time.Duration) time.Duration {
	return b.backlog(now) + b.cfg.SLO - (due - now)
}
