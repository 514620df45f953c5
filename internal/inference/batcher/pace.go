package batcher

import (
	"math"
	"time"
)

// Pace is how fast runs are while nothing else is in the way, as measured.
type Pace struct {
	Rows     int           // of a run that gives about the most rows per second; twice the largest so far if that is the one
	Parallel int           // such runs at a time
	Run      time.Duration // one of them, beside the others; 0 while nothing is known
	Spread   float64       // 95th percentile of run times over the expected
}

// Of sizes that are about as good, the largest that does not last long is taken: each run
// has costs that the table does not know, and beside other work its times are only roughly
// known.
const (
	asGood  = 0.9 // of the most rows per second
	lasting = 2 * time.Millisecond
)

// Pace returns what work that is not in a hurry can count on.
func (b *Batcher[T]) Pace() Pace {
	b.mu.Lock()
	p := Pace{Rows: 1, Parallel: b.parallel}
	b.mu.Unlock()
	c, best := b.cost, 0.0
	for _, n := range c.sizes {
		best = max(best, b.rate(n))
	}
	for _, n := range c.sizes {
		if r := b.rate(n); r > 0 && r >= asGood*best && (p.Run == 0 || float64(n)/r <= float64(lasting)) {
			p.Rows, p.Run = n, time.Duration(c.estimate(n, p.Parallel-1))
		}
	}
	p.Spread = math.Float64frombits(c.spread.Load())
	if tried := c.explored(); p.Rows >= tried { // the time is that of as many rows, at the rate of the largest
		p.Rows = min(max(2*tried, 1), b.cfg.MaxRows)
		p.Run = time.Duration(c.estimate(max(tried, 1), p.Parallel-1) * float64(p.Rows) / float64(max(tried, 1)))
	}
	return p
}

// rate returns how many rows per nanosecond runs of a size do, alone or beside others,
// whichever was faster: disturbances only make runs longer.
func (b *Batcher[T]) rate(rows int) (best float64) {
	for beside := range b.cfg.Executors {
		if est := b.cost.estimate(rows, beside); est > 0 && rows <= b.cfg.MaxRows {
			best = max(best, float64(rows)/est)
		}
	}
	return best
}
