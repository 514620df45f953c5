package batcher

import (
	"math"
	"time"
)

// Point is what runs of some rows take while others are in progress.
type Point struct {
	Rows   int
	Beside int // other runs in progress
	Run    time.Duration
}

// Costs returns what has been measured of run times: the sizes that were run at
// least once, for each number of other runs that was seen. Spread is the 95th
// percentile of run times over these.
func (b *Batcher[T]) Costs() (points []Point, spread float64) { return b.cost.points() }

func (c *Cost) points() (points []Point, spread float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.columns {
		col := &c.columns[k]
		if col.source.Load() != int32(k) {
			continue
		}
		for i := range col.top {
			points = append(points, Point{c.sizes[i], k, time.Duration(col.at(i))})
		}
	}
	return points, math.Float64frombits(c.spread.Load())
}
