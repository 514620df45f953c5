package batcher

import "time"

// tuning is what the cost table means for the policy. It is derived anew as
// the table changes.
type tuning struct {
	pays     bool // running rows together is faster than one by one
	limit    int  // most rows to put into one run
	enough   int  // rows from which on a run takes no more: limit, or knee while there are light tenants
	knee     int  // enough rows that more hardly make it more efficient
	parallel int  // runs at a time that are worth it, at most the executors
	tried    int  // largest run so far, on which it rests
	untilNew int  // runs until it is derived again
	trials   trials
}

// trials are runs beside more others than the table says is worth it. Nothing else would show
// that the table is wrong there: a warm-up on a busy machine seeds it, and then it learns
// only from what is run.
type trials struct {
	every int // runs
	until int // runs until the next
}

// Trials become rarer while they change nothing.
const (
	trialsFrom = 8 // runs
	trialsTo   = 512
)

// due says that it is time for a trial.
func (t *trials) due() bool { return t.until <= 0 }

// began counts a run, which may be a trial.
func (t *trials) began(trial bool) {
	t.until--
	if trial {
		t.every = min(2*t.every, trialsTo)
		t.until = t.every
	}
}

const (
	paysFrom     = 1.25 // rows per second of the best run over those of a single row
	parallelFrom = 1.1  // throughput of more parallel runs over that of fewer
	disturbsFrom = 1.2  // run time beside other runs over run time alone
	retuneEvery  = 16   // runs
)

// tune derives the tuning from the cost table.
func (b *Batcher[T]) tune() {
	b.untilNew = retuneEvery
	defer func(before int) {
		b.share(b.now())
		if b.parallel != before {
			b.trials = trials{trialsFrom, trialsFrom}
		}
	}(b.parallel)
	if b.cfg.Solo || b.cfg.MaxRows == 1 {
		b.pays, b.limit, b.knee = false, 1, 1
		b.parallel = b.worthwhile()
		return
	}
	if b.cfg.Explicit.windowed() {
		b.limit, b.knee, b.pays, b.parallel = b.cfg.MaxRows, b.cfg.MaxRows, true, b.cfg.Executors
		return
	}
	// A run may take half of the SLO, so that a task that just missed one
	// still makes the next. Sizes never seen are tried by doubling.
	explored := b.cost.explored()
	b.tried = explored
	most := b.cfg.MaxRows
	if explored < most {
		most = min(max(2*explored, 1), most)
	}
	b.limit = max(b.cost.largestWithin(b.cfg.SLO/2, most, max(b.parallel-1, 0)), 1)
	b.parallel = b.worthwhile()

	b.pays = explored < b.limit || b.cost.rate(b.limit) >= paysFrom*b.cost.rate(1)
	b.knee = b.cost.kneeUpTo(b.limit)
	if explored < b.limit {
		b.knee = b.limit
	}
	if !b.pays {
		b.limit = max(b.knee, 1)
	}
}

// worthwhile returns how many runs at a time give the most rows per second,
// the fewer the better where more gain little.
func (b *Batcher[T]) worthwhile() int {
	n, best := 1, 0.0
	for p := 1; p <= b.cfg.Executors; p++ {
		est := b.cost.estimate(b.limit, p-1)
		if est == 0 {
			return b.cfg.Executors
		}
		if rate := float64(p) / est; rate >= parallelFrom*best {
			n, best = p, rate
		}
	}
	return n
}

// share decides how many rows are enough for a run. While there are light tenants, runs are
// no longer than pays: longer ones hardly get more done, and everybody waits for them.
func (b *Batcher[T]) share(now time.Duration) {
	if b.enough = b.limit; now-b.lastLight < b.cfg.SLO && !b.cfg.Explicit.windowed() {
		b.enough = max(b.knee, 1)
	}
}

// price returns the run time that rows of one bucket need, in full runs.
func (b *Batcher[T]) price(rows int) time.Duration {
	k := b.parallel - 1
	p := time.Duration(0)
	if full := rows / b.enough; full > 0 {
		p = time.Duration(full) * b.cost.P95(b.enough, k)
	}
	if rest := rows % b.enough; rest > 0 {
		p += b.cost.P95(rest, k)
	}
	return p
}

// added returns the run time that more rows add to those waiting in a bucket.
func (b *Batcher[T]) added(rows, waiting int) time.Duration {
	if b.cfg.Solo || rows >= b.enough { // a run of its own
		return b.cost.P95(rows, b.parallel-1)
	}
	return b.price(waiting+rows) - b.price(waiting)
}

// disturbs reports whether another run beside k others would be slowed down by them.
func (b *Batcher[T]) disturbs(rows, k int) bool {
	return b.cost.estimate(rows, k) >= disturbsFrom*b.cost.estimate(rows, 0)
}

// learn feeds what r took to the cost table, and what its members' waiting
// came to against the forecast.
func (b *Batcher[T]) learn(r *run[T], now time.Duration) {
	took := now - r.start
	if took <= 0 {
		return
	}
	others := float64(b.busyTime-r.busy)/float64(took) - 1
	b.cost.Observe(max(r.rows, 1), others, took)
	if b.untilNew--; b.untilNew <= 0 || r.rows > b.tried || b.tried == 0 {
		b.tune()
	}
	b.compare(r.batch[len(r.batch)-1], now)
}
