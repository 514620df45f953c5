package batcher

import "time"

// Foresee returns the refusal that an online task of the tenant's is bound to meet
// whose caller's time began at since, however small it is; nil if it may be
// accepted. Who asks before making the task saves that where there is too much to do:
// reading a request can cost as much as answering it.
//
// It forecasts as Submit does, but for the best that may be: a single row that goes
// in a run which is queued anyway. Where a priority, a timeout or fairness may let a
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
		return nil // a newer task of that one may have to go
	}
	if light, _ := b.tenants.standing(own, now, b.parallel); light {
		return nil
	}
	due := since.Sub(b.epoch) + b.cfg.SLO
	late := b.earliest(now, due) - due
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

// earliest returns when a task of one row that is due then is answered at best.
func (b *Batcher[T]) earliest(now, due time.Duration) time.Duration {
	ahead := max(b.demand.until(now, due)-b.price(b.limit-1), 0)
	guess := b.residual(now) + ahead/time.Duration(b.parallel) + b.cost.P95(1, b.parallel-1)
	return now + time.Duration(float64(guess)*b.optimism.value) + b.wakeLag
}
