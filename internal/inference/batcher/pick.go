package batcher

import (
	"cmp"
	"slices"
	"time"
)

// pick returns the bucket to serve: the one whose head is due first, as long
// as all heads can be served in that order; else, in overload, the one that
// gets the most rows done in time per second.
func (b *Batcher[T]) pick(now time.Duration) *bucket[T] {
	q := &b.online
	switch {
	case len(q.active) == 1:
		return q.active[0]
	case b.cfg.Explicit.windowed():
		return b.windowPick(now)
	case b.cfg.Explicit.timeouts() || b.cfg.Explicit.PreserveOrdering || b.planHolds(now):
		return q.earliest()
	}
	if first := q.earliest(); first.tasks.head().light {
		return first // the others' heads asked for more than there is
	}
	best, most := q.active[0], -1.0
	for _, bk := range q.active {
		rate := b.inTime(bk, now)
		if rate > most || rate == most && bk.tasks.nodes[0].before(best.tasks.nodes[0]) {
			best, most = bk, rate
		}
	}
	return best
}

// planned is how many buckets the plan looks at: it is made for each run.
const planned = 16

// planHolds says whether serving the buckets by their heads' deadlines, in
// full runs, keeps those deadlines.
func (b *Batcher[T]) planHolds(now time.Duration) bool {
	var order [planned]*bucket[T]
	heads := order[:copy(order[:], b.online.active)]
	slices.SortFunc(heads, func(x, y *bucket[T]) int {
		return cmp.Compare(x.tasks.nodes[0].key, y.tasks.nodes[0].key)
	})
	start := now + b.wakeLag
	for _, bk := range heads {
		c := b.cost.P95(min(bk.rows, b.limit), b.parallel-1)
		if start+c > bk.tasks.head().due {
			return false
		}
		start += c / time.Duration(b.parallel)
	}
	return true
}

// inTime returns how many rows per nanosecond of run time a run of the bucket
// would get done by their deadlines.
func (b *Batcher[T]) inTime(bk *bucket[T], now time.Duration) float64 {
	others := len(b.runs)
	end := now + b.wakeLag + b.cost.P95(min(bk.rows, b.limit), others)
	rows := 0
	for _, n := range bk.tasks.nodes {
		if n.t.due >= end {
			rows += n.t.rows()
		}
	}
	rows = min(rows, b.limit)
	return float64(rows) / float64(b.cost.P95(max(rows, 1), others)+1)
}
