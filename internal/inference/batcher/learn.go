package batcher

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// How fast the table learns. An observation moves a cell by an eighth of its
// error, and the error upwards that it may claim is bounded: one garbage
// collection or one lazy first run must not poison the table, while a lasting
// change is followed within a few dozen runs. A run may be slow by accident but
// hardly fast, so one far below the estimate counts for half.
const (
	learnRate  = 1.0 / 8
	fastRate   = 1.0 / 2
	fastFrom   = -.5
	maxError   = 1.0 // of the estimate
	firstError = 3.0 // the same for a cell's first observations: the estimate is a guess then, of other sizes or of fewer runs at a time
	trustAfter = 4   // observations of a cell that make it more than a guess
	maxSpread  = 3.0
)

// Seed sets the run time of n rows with k other runs in progress, as measured
// by a warm-up sweep. It may be repeated; the last value counts.
func (c *Cost) Seed(n, k int, d time.Duration) {
	if n < 1 || k < 0 || k >= len(c.columns) || d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open(k, n, float64(d))
	col := &c.columns[k]
	i, w := c.locate(n)
	if w > .5 {
		i++
	}
	col.set(i, float64(d)*float64(c.sizes[i])/float64(n))
	if w == 0 {
		col.set(i, float64(d))
	}
	col.seen[i] = max(col.seen[i], trustAfter)
	c.flatten(col)
	c.reach(col, i+1)
	col.reshape()
}

// Observe learns that a run of n rows took d with, on average over its time,
// others other runs in progress.
func (c *Cost) Observe(n int, others float64, d time.Duration) {
	if n < 1 || d <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	others = min(max(others, 0), float64(len(c.columns)-1))
	k := int(others)
	towardsNext := others - float64(k)
	if towardsNext > .7 {
		k, towardsNext = k+1, 0
	}
	if towardsNext < .3 || c.columns[k+1].source.Load() != int32(k+1) {
		towardsNext = 0
	}
	c.open(k, n, cmp.Or(c.estimate(n, k), float64(d))) // as runs beside fewer or more are; then it is learned, like any

	est := c.estimate(n, k)*(1-towardsNext) + c.estimate(n, k+1)*towardsNext
	c.learnSpread(float64(d) / est)
	c.adjust(&c.columns[k], n, 1-towardsNext, float64(d), est)
	if towardsNext > 0 {
		c.adjust(&c.columns[k+1], n, towardsNext, float64(d), est)
	}
}

// open makes column k known. Its cells start as the nearest column's, in proportion to
// what n rows take there and d; in the very first column smaller runs
// cost no less and larger runs in proportion, which errs on the slow side.
func (c *Cost) open(k, n int, d float64) {
	if c.columns[k].source.Load() == int32(k) {
		return
	}
	col, like, est := &c.columns[k], c.source(k), c.estimate(n, k)
	for i, size := range c.sizes {
		if like != nil {
			col.set(i, like.at(i)*d/est)
		} else {
			col.set(i, d*max(1, float64(size)/float64(n)))
		}
	}
	col.reshape()
	col.source.Store(int32(k))
	for j := range c.columns { // unknown columns read the nearest known one, the lower first
		s := c.columns[j].source.Load()
		if s < 0 || s != int32(j) && abs(j-k) < abs(j-int(s)) {
			c.columns[j].source.Store(int32(k))
		}
	}
}

func abs(x int) int { return max(x, -x) }

// A run between two cells teaches the farther one only from this share of the way on, and
// only once the nearer one has been observed sureAfter times; before that the farther cell
// follows others.
const (
	ofItsOwn  = .25
	sureAfter = 32
)

// adjust moves the cells around n towards d by weight: the nearer one, and the farther one if
// hasOwn allows it.
func (c *Cost) adjust(col *column, n int, weight, d, est float64) {
	i, w := c.locate(n)
	near, far, part, reached := i, i+1, w, i+1
	if w > 0 {
		reached++
	}
	if w > .5 {
		near, far, part = i+1, i, 1-w
	}
	if part > 0 && col.hasOwn(near, far, part) {
		c.teach(col, far, n, weight*part, d, est)
	} else {
		part = 0
	}
	c.teach(col, near, n, weight*(1-part), d, est)
	col.follow()
	c.flatten(col)
	c.reach(col, reached)
}

// teach moves a cell by a run of n rows in d, within what that says of the cell's size: more
// rows take no less, and no more than in proportion. Without these bounds, runs of two sizes
// that contradict each other, as those of unlike shapes may, would never let the cells
// around them come to rest.
func (c *Cost) teach(col *column, i, n int, weight, d, est float64) {
	ratio := float64(c.sizes[i]) / float64(n)
	col.move(i, weight, d/est-1, d*min(1, ratio), d*max(1, ratio))
}

// hasOwn reports whether a cell learns from runs that are nearer to another cell.
func (col *column) hasOwn(near, far int, part float64) bool {
	return col.run[far] || part >= ofItsOwn && col.run[near] && col.seen[near] >= sureAfter
}

// follow keeps cells that no run has taught in proportion to the nearest one that a run has:
// the sweep ran the model with the smallest inputs that its shapes allow, in most columns
// with a single row, and with longer requests all sizes take longer. If only the taught
// sizes rose, the others would seem a bargain, and more runs at a time, known for other
// sizes, a loss. The proportion is that of the column's shape and not of the cells as they
// are, since small steps would add up their errors.
func (col *column) follow() {
	for i, run := range col.run {
		if !run {
			near := col.nearestRun(i)
			col.set(i, max(col.at(near)*col.shape[i]/col.shape[near], 1))
		}
	}
}

// reshape takes the cells as they are as the proportions that follow keeps.
func (col *column) reshape() {
	for i := range col.shape {
		col.shape[i] = col.at(i)
	}
}

// nearestRun returns the cell nearest to cell i that a run has taught, of two the smaller;
// there must be one.
func (col *column) nearestRun(i int) int {
	for d := 0; ; d++ {
		if below := i - d; below >= 0 && col.run[below] {
			return below
		}
		if above := i + d; above < len(col.run) && col.run[above] {
			return above
		}
	}
}

// move changes a cell by a part, weight, of a run's relative error, not below low and not
// above high. A run far above a guess is not believed at once: it moves the guess, and the
// next run settles it. Weights are exponents, so that two cells which the same runs move
// keep their proportion instead of drifting apart.
func (col *column) move(i int, weight, relative, low, high float64) {
	rate, most := learnRate, maxError
	if relative < fastFrom {
		rate = fastRate
	}
	col.run[i] = true
	guess := col.seen[i] < trustAfter
	if guess {
		rate, most = max(rate, 1/(1+col.seen[i])), firstError
	}
	before := col.at(i)
	after := before * math.Pow(1+rate*min(relative, most), weight)
	if after > before {
		after = max(before, min(after, high))
	} else {
		after = min(before, max(after, low))
	}
	col.set(i, after)
	if !guess || relative <= most {
		col.seen[i] += max(weight, .01)
	}
}

// reach notes that the first cells of a column rest on observations, and
// brings the cells beyond into line.
func (c *Cost) reach(col *column, cells int) {
	col.top = max(col.top, cells)
	if col.top <= c.widest.top {
		c.extend(col)
		return
	}
	c.widest = col
	for k := range c.columns {
		if c.columns[k].top > 0 {
			c.extend(&c.columns[k])
		}
	}
}

// extend estimates the cells beyond the largest size that a column has seen:
// after the widest column or, where that knows no more either, in proportion
// to the rows, which errs on the slow side.
func (c *Cost) extend(col *column) {
	for i := max(col.top, 1); i < len(c.sizes); i++ {
		ratio := float64(c.sizes[i]) / float64(c.sizes[i-1])
		if i < c.widest.top {
			ratio = c.widest.at(i) / c.widest.at(i-1)
		}
		col.set(i, col.at(i-1)*ratio)
		col.shape[i] = col.shape[i-1] * ratio
	}
}

// flatten restores that more rows never cost less: neighbours in the wrong
// order meet in the middle, by how well each is known (isotonic regression by
// pooling adjacent violators). Those that were never run give way to those that were.
func (c *Cost) flatten(col *column) {
	type pool struct {
		sum, weight float64
		cells       int
	}
	var pools [maxCells]pool
	n, ran := 0, slices.Contains(col.run, true)
	for i := range c.sizes {
		known := min(col.seen[i], 32) + 1e-3
		if ran && !col.run[i] {
			known = 1e-20
		}
		p := pool{known * col.at(i), known, 1}
		for n > 0 && pools[n-1].sum/pools[n-1].weight > p.sum/p.weight {
			n--
			p = pool{p.sum + pools[n].sum, p.weight + pools[n].weight, p.cells + pools[n].cells}
		}
		pools[n] = p
		n++
	}
	i := 0
	for _, p := range pools[:n] {
		if p.cells == 1 { // unchanged
			i++
			continue
		}
		for range p.cells {
			col.set(i, p.sum/p.weight)
			i++
		}
	}
}

// learnSpread follows the 95th percentile of actual over expected.
func (c *Cost) learnSpread(ratio float64) {
	q := quantile{value: math.Float64frombits(c.spread.Load())}
	q.observe(ratio, .95, .01)
	c.spread.Store(math.Float64bits(min(max(q.value, 1), maxSpread)))
}

// explored returns the largest size that was ever run or seeded, rounded up to
// one with a cell; 0 if none was.
func (c *Cost) explored() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.widest.top == 0 {
		return 0
	}
	return c.sizes[c.widest.top-1]
}

// quantile follows a quantile of a stream of positive numbers: each number pushes it up or
// down by a step that depends on the side alone, so that outliers weigh no more than other
// numbers. A value far above what comes is left from another time, when others used the
// machine, say; it falls faster, since by steps alone that would take thousands of numbers.
type quantile struct{ value float64 }

// faraway is from how many times the number on a quantile counts as far above it.
const faraway = 3

func (q *quantile) observe(x, at, step float64) {
	switch {
	case x > q.value:
		q.value *= 1 + step*at
	case x < q.value/faraway:
		q.value *= 1 - step*at/2
	default:
		q.value *= 1 - step*(1-at)
	}
}
