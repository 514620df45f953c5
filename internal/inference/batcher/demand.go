package batcher

import "time"

// demand is the queued work by order of service: how much run time the queue
// asks for up to any point. It answers the classic feasibility test of
// earliest-deadline-first scheduling in constant time, whatever the length of
// the queue: the horizon is cut into slots, and a slot holds a sum.
type demand struct {
	width time.Duration // of a slot
	work  [demandSlots]time.Duration
	total time.Duration
}

// The queue's keys lie within the horizon from now on, which fills all slots
// but a few: the spare ones keep overdue tasks apart from the far end.
const (
	demandSlots  = 64
	demandFilled = demandSlots - 4
)

func newDemand(horizon time.Duration) demand {
	return demand{width: max(horizon/demandFilled, 1)}
}

// slot returns the slot of a key, counted from the epoch.
func (d *demand) slot(key time.Duration) int64 { return int64(key / d.width) }

func (d *demand) add(key, work time.Duration) {
	d.work[d.slot(key)%demandSlots] += work
	d.total += work
}

// until returns the work queued up to and including key's slot.
func (d *demand) until(now, key time.Duration) time.Duration {
	if d.total == 0 {
		return 0
	}
	sum := time.Duration(0)
	for s, last := d.slot(now), d.slot(key); s <= last; s++ {
		sum += d.work[s%demandSlots]
	}
	return sum
}

// fits reports whether all work queued beyond key's slot still ends in time if
// it starts at now+delay and extra is done before it, at the given number of
// runs in parallel.
func (d *demand) fits(now, key, delay, extra time.Duration, parallel int) bool {
	if d.total == 0 {
		return true
	}
	sum, beyond := extra, d.slot(key)
	first := d.slot(now)
	for s := first; s < first+demandFilled+1; s++ {
		w := d.work[s%demandSlots]
		sum += w
		if end := time.Duration(s+1) * d.width; w > 0 && s > beyond && now+delay+sum/time.Duration(parallel) > end {
			return false
		}
	}
	return true
}
