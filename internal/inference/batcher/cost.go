package batcher

import (
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Cost is the table of a model's run times: what n rows take while k other
// runs are in progress. It is seeded by a warm-up sweep and learns from every
// run. Within a column of equal k, more rows never cost less. It is safe for
// concurrent use, and reads take no lock.
type Cost struct {
	sizes   []int // row counts with a cell of their own, ascending; others are interpolated
	columns []column

	mu     sync.Mutex    // serialises writers
	widest *column       // that has seen the largest size; under mu
	spread atomic.Uint64 // 95th percentile of actual over expected, as float64 bits
}

// column holds the run times for one number of other runs.
type column struct {
	nanos []atomic.Uint64 // float64 bits by size; meaningful once the column is known
	seen  []float64       // how often each cell was observed; under Cost.mu
	shape []float64       // what cells that were not run are in proportion to; under Cost.mu
	run   []bool          // which cells rest on a run, and not on the sweep alone; under Cost.mu
	top   int             // cells up to the largest size ever observed; under Cost.mu
	// source is the column to read for this one: itself once it is known,
	// before that the nearest known one; negative if there is none.
	source atomic.Int32
}

// NewCost returns an empty table for runs of up to maxRows rows and up to
// executors concurrent runs.
func NewCost(maxRows, executors int) *Cost {
	c := &Cost{}
	c.init(sizesUpTo(max(maxRows, 1)), max(executors, 1))
	return c
}

// maxCells is how many sizes a table may have: powers of two and one more.
const maxCells = 64

// sizesUpTo returns the powers of two below n, and n.
func sizesUpTo(n int) []int {
	var sizes []int
	for s := 1; s < n; s *= 2 {
		sizes = append(sizes, s)
	}
	return append(sizes, n)
}

func (c *Cost) init(sizes []int, executors int) {
	c.sizes = sizes
	c.columns = make([]column, executors)
	for k := range c.columns {
		c.columns[k].nanos = make([]atomic.Uint64, len(sizes))
		c.columns[k].seen = make([]float64, len(sizes))
		c.columns[k].shape = make([]float64, len(sizes))
		c.columns[k].run = make([]bool, len(sizes))
		c.columns[k].source.Store(-1)
	}
	c.widest = &c.columns[0]
	c.spread.Store(math.Float64bits(1))
}

// Estimate returns the expected run time of n rows with k other runs in
// progress; 0 means that nothing is known yet.
func (c *Cost) Estimate(n, k int) time.Duration {
	return time.Duration(c.estimate(n, k))
}

// P95 is Estimate for the 95th percentile.
func (c *Cost) P95(n, k int) time.Duration {
	return time.Duration(c.estimate(n, k) * math.Float64frombits(c.spread.Load()))
}

// Knee returns the smallest run size with at least 90 % of the most rows per
// second that any size reaches; 0 means that nothing is known yet.
func (c *Cost) Knee() int { return c.kneeUpTo(c.maxRows()) }

func (c *Cost) maxRows() int { return c.sizes[len(c.sizes)-1] }

func (c *Cost) estimate(n, k int) float64 {
	col := c.source(k)
	if col == nil {
		return 0
	}
	i, w := c.locate(n)
	if w == 0 {
		est := col.at(i)
		if top := c.sizes[i]; n > top { // beyond the table: no gain from more rows
			est *= float64(n) / float64(top)
		}
		return est
	}
	return col.at(i)*(1-w) + col.at(i+1)*w
}

// source returns the column that answers for k, or nil.
func (c *Cost) source(k int) *column {
	k = min(max(k, 0), len(c.columns)-1)
	if s := c.columns[k].source.Load(); s >= 0 {
		return &c.columns[s]
	}
	return nil
}

func (col *column) at(i int) float64     { return math.Float64frombits(col.nanos[i].Load()) }
func (col *column) set(i int, v float64) { col.nanos[i].Store(math.Float64bits(v)) }

// locate returns the cell at or below n, and how far towards the next cell n
// lies, from 0 to less than 1.
func (c *Cost) locate(n int) (cell int, towardsNext float64) {
	i, exact := slices.BinarySearch(c.sizes, n)
	switch {
	case exact:
		return i, 0
	case i == 0:
		return 0, 0
	case i == len(c.sizes):
		return i - 1, 0
	}
	lo, hi := c.sizes[i-1], c.sizes[i]
	return i - 1, float64(n-lo) / float64(hi-lo)
}

// kneeUpTo is Knee for runs of at most limit rows.
func (c *Cost) kneeUpTo(limit int) int {
	best := 0.0
	for _, n := range c.sizes {
		best = max(best, c.rate(min(n, limit)))
	}
	if best == 0 {
		return 0
	}
	// Cost is linear between two sizes, so the rate is monotone there: the
	// knee lies at or below the first good size and above the one before it.
	good := func(n int) bool { return c.rate(n) >= 0.9*best*(1-1e-9) }
	below := 0
	for _, n := range c.sizes {
		if n = min(n, limit); good(n) {
			return below + 1 + sort.Search(n-below-1, func(i int) bool { return good(below + 1 + i) })
		}
		below = n
	}
	return limit
}

// rate returns the rows per nanosecond of undisturbed runs of n rows.
func (c *Cost) rate(n int) float64 {
	if est := c.estimate(n, 0); est > 0 {
		return float64(n) / est
	}
	return 0
}

// largestWithin returns the largest run of at most limit rows that ends within
// d while k others run; 0 if there is none.
func (c *Cost) largestWithin(d time.Duration, limit, k int) int {
	return sort.Search(limit, func(i int) bool { return c.P95(i+1, k) > d })
}
