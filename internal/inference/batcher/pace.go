package batcher

import (
	"math"
	"time"
)

// Pace is how fast runs are while nothing else is in the way, as measured.
type Pace struct {
	Rows     int           // of the run that gives the most rows per second; of one never tried where the largest so far is that
	Parallel int           // such runs at a time
	Run      time.Duration // one of them, beside the others; 0 while nothing is known
	Spread   float64       // 95th percentile of run times over the expected
}

// Pace returns what work that is not in a hurry can count on.
func (b *Batcher[T]) Pace() Pace {
	b.mu.Lock()
	p := Pace{Rows: 1, Parallel: b.parallel}
	b.mu.Unlock()
	c, best := b.cost, 0.0
	for _, n := range c.sizes {
		if n > b.cfg.MaxRows {
			break
		}
		est := c.estimate(n, p.Parallel-1)
		if rate := float64(n) / est; est > 0 && rate > 1.02*best {
			best, p.Rows, p.Run = rate, n, time.Duration(est)
		}
	}
	p.Spread = math.Float64frombits(c.spread.Load())
	if tried := c.explored(); p.Rows >= tried { // the time is that of as many rows, at the rate of the largest
		p.Rows = min(max(2*tried, 1), b.cfg.MaxRows)
		p.Run = time.Duration(c.estimate(max(tried, 1), p.Parallel-1) * float64(p.Rows) / float64(max(tried, 1)))
	}
	return p
}
