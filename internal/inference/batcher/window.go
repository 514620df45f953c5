package batcher

import "time"

// windowOpens returns from when explicit settings let a bucket run: at once if
// it makes a full run or one of a preferred size, else when its head has
// waited for MaxQueueDelay, or can wait no longer and still be in time.
func (b *Batcher[T]) windowOpens(bk *bucket[T], now time.Duration) time.Duration {
	if bk.rows >= b.cfg.MaxRows || b.preferred(bk.rows) > 0 {
		return now
	}
	head := bk.tasks.head()
	latest := head.due - timerLag
	if !b.cfg.Explicit.timeouts() { // these bound the wait alone, and not the run
		latest -= b.cost.P95(bk.rows, len(b.runs)) + b.wakeLag
	}
	return min(head.arrived+b.cfg.Explicit.MaxQueueDelay, latest)
}

// timerLag is how late a timer may well go off on a busy machine.
const timerLag = time.Millisecond

// windowRows returns how many rows of a bucket to run under explicit settings.
func (b *Batcher[T]) windowRows(bk *bucket[T]) int {
	head := bk.tasks.head().rows()
	if n := b.preferred(bk.rows); n > 0 && bk.rows < b.cfg.MaxRows {
		return max(n, head)
	}
	return max(min(bk.rows, b.cfg.MaxRows), head)
}

// preferred returns the largest preferred size that the rows fill; 0 if none.
func (b *Batcher[T]) preferred(rows int) int {
	best := 0
	for _, n := range b.cfg.Explicit.PreferredSizes {
		if n <= rows {
			best = n
		}
	}
	return best
}

// windowPick returns the bucket that may run first.
func (b *Batcher[T]) windowPick(now time.Duration) *bucket[T] {
	var best *bucket[T]
	var opens time.Duration
	for _, bk := range b.online.active {
		at := max(b.windowOpens(bk, now), now)
		if best == nil || at < opens || at == opens && bk.tasks.nodes[0].before(best.tasks.nodes[0]) {
			best, opens = bk, at
		}
	}
	return best
}
