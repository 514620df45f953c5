package batcher

import "time"

// clock measures what the cost table cannot know: how busy the executors are,
// how often tasks arrive, and how far forecasts are from what comes to pass,
// for the processors are shared with the handling of requests.
type clock struct {
	busyTime time.Duration // integral of the number of runs over time
	accrued  time.Duration // up to when

	lastArrival time.Duration // of an online task
	gap         time.Duration // between these of late, on average
	lastLate    time.Duration // when a task was last refused because it would be late
	crowd       int           // how many more arrivals count as having company

	optimism quantile      // actual over forecast time to an answer, 97th percentile, for long waits
	wakeLag  time.Duration // from the end of a run to its submitter's going on
}

const (
	crowdMemory = 64 // arrivals
	gapWeight   = 16
	wakeSample  = 16 // tasks per sample of the wake lag
	maxOptimism = 8
)

// accrue brings busyTime up to now; call it before the number of runs changes.
func (b *Batcher[T]) accrue(now time.Duration) {
	b.busyTime += (now - b.accrued) * time.Duration(len(b.runs))
	b.accrued = now
}

// arrival notes that an online task has arrived.
func (b *Batcher[T]) arrival(now time.Duration) {
	gap := min(now-b.lastArrival, b.cfg.SLO)
	b.gap += (gap - b.gap) / gapWeight
	b.lastArrival = now
	if len(b.runs) > b.bulks || b.leader != nil && b.leader.Class == Online || b.online.tasks > 0 {
		b.crowd = crowdMemory
	} else if b.crowd > 0 {
		b.crowd--
	}
}

// company says that other submitters have been around lately.
func (b *Batcher[T]) company() bool { return b.crowd > 0 }

// joining returns how many tasks are likely to arrive within d.
func (b *Batcher[T]) joining(d time.Duration) int {
	return int(min(d/max(b.gap, 1), time.Duration(b.limit)))
}

// compare learns from a task how its forecast held. Short waits say little:
// there the machinery's own microseconds count for much.
func (b *Batcher[T]) compare(t *Task[T], now time.Duration) {
	if t.guess <= 0 || float64(t.guess)*b.optimism.value < float64(b.cfg.SLO)/4 {
		return
	}
	b.optimism.observe(float64(now-t.arrived)/float64(t.guess), .97, .1)
	b.optimism.value = min(max(b.optimism.value, 1), maxOptimism)
}

// wokenAfter learns how long a submitter took to go on after its run.
func (b *Batcher[T]) wokenAfter(d time.Duration) {
	// Twice the mean is a high percentile of the usual distributions.
	b.wakeLag += (2*min(d, b.cfg.SLO/2) - b.wakeLag) / gapWeight
}
