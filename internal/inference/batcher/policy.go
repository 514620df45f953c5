package batcher

import "time"

// offer starts the next run, if there is one worth starting now, by naming its
// leader; otherwise it sees to it that the question is asked again in time. It
// is called whenever the answer may have changed. self, if not nil, has just
// been queued by the calling goroutine: it becomes the leader if its task is
// in the run, and is not woken for it.
func (b *Batcher[T]) offer(now time.Duration, self *Task[T]) {
	b.prune(now)
	if b.leader != nil && !b.overtaken(now) {
		b.setAlarm(never)
		return
	}
	head, again := b.next(now)
	b.leader = head
	b.setAlarm(again)
	switch {
	case head == nil:
		b.giveWay(now)
	case head == self:
	case self != nil && (self.light || !head.light) && self.bucket == head.bucket && b.cfg.joins(head.bucket.rows, b.enough):
		b.leader = self
	case len(head.wake) == 0: // else it was woken before, and overtaken
		head.wake <- lead
	}
}

// overtaken reports whether an online task is to lead instead of a bulk task that was woken
// for it: the submitter of bulk work may have a low priority, and take long to wake up.
func (b *Batcher[T]) overtaken(now time.Duration) bool {
	if b.leader.Class == Online || b.online.tasks == 0 {
		return false
	}
	head, _ := b.next(now)
	return head != nil && head.Class == Online
}

// joins says that every task of a bucket with so many rows goes in its next run.
func (c *Config) joins(rows, limit int) bool {
	return !c.Solo && !c.Explicit.windowed() && !c.Explicit.PreserveOrdering && rows <= limit
}

// next returns the head of the bucket to run now, or nil and when to ask again.
func (b *Batcher[T]) next(now time.Duration) (*Task[T], time.Duration) {
	if len(b.runs) >= b.cfg.Executors {
		return nil, never
	}
	for b.online.tasks > 0 {
		bk := b.pick(now)
		if again := b.ready(bk, now); again > now {
			return nil, again
		}
		if b.trim(bk, now) > 0 {
			return bk.tasks.head(), never
		}
	}
	if b.bulk.tasks > 0 && b.readyForBulk(now) {
		return b.bulk.earliest().tasks.head(), never
	}
	return nil, never
}

// ready returns from when a run of the bucket may start beside those in
// progress: now, later, or never for not before one of them ends.
func (b *Batcher[T]) ready(bk *bucket[T], now time.Duration) time.Duration {
	others := len(b.runs)
	switch kept := b.keptOut(bk, now); {
	case b.cfg.Explicit.windowed():
		return b.windowOpens(bk, now)
	case others == b.bulks:
		return now // waiting for company is never worth it, and waiting for bulk work neither
	case kept > now:
		return kept
	case others < b.parallel && bk.tasks.head().light:
		return now
	case others < b.parallel && (!b.pays || bk.rows >= b.knee || !b.disturbs(bk.rows, others)):
		return now
	case others == b.parallel && b.trials.due() && b.mayTry(bk, now):
		return now
	}
	// Waiting for a run to end gathers more rows and disturbs nobody, and costs
	// nothing as long as the first in line still makes it.
	n := min(bk.rows, b.limit)
	latest := bk.tasks.head().due - b.cost.P95(n, others) - b.wakeLag
	if latest < now {
		return never
	}
	if b.firstEnd(now)+b.cost.P95(n, others-1)+b.wakeLag > bk.tasks.head().due {
		return now
	}
	return max(latest, now+1)
}

// mayTry reports whether a bucket's next run may be a trial: there is time for it even if it
// takes twice as long as the runs one after the other. Its head then runs whatever the table
// says, since the trial is to show whether the table is right.
func (b *Batcher[T]) mayTry(bk *bucket[T], now time.Duration) bool {
	head := bk.tasks.head()
	n := max(min(bk.rows, b.limit), head.rows())
	if now+2*time.Duration(b.parallel+1)*b.cost.P95(n, 0)+b.wakeLag > head.due {
		return false
	}
	head.probe = true
	return true
}

// firstEnd returns when a run in progress is expected to end.
func (b *Batcher[T]) firstEnd(now time.Duration) time.Duration {
	first := never
	for _, r := range b.runs {
		first = min(first, r.end)
	}
	return max(first, now)
}

// readyForBulk reports whether a run of bulk work alone may start. If there was online work
// lately, one of several executors is left free for it.
func (b *Batcher[T]) readyForBulk(now time.Duration) bool {
	others := len(b.runs)
	allowed := b.parallel
	if allowed > 1 && b.onlineLately(now) {
		allowed--
	}
	return others == 0 || others < allowed
}

// onlineMemory is how long an online task counts as lately.
const onlineMemory = time.Second

func (b *Batcher[T]) onlineLately(now time.Duration) bool { return now-b.lastArrival < onlineMemory }

// brief is how long a run of bulk work may be while online work may come, which would share
// the machine with it; it may always be as long as two runs of a single row.
const brief = 500 * time.Microsecond

// briefly returns how many rows of bulk work make a brief run.
func (b *Batcher[T]) briefly() int {
	return max(b.cost.largestWithin(max(brief, 2*b.cost.P95(1, 0)), b.limit, 0), 1)
}
