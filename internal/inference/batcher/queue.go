package batcher

import "time"

// ticket is the batcher's part of a task. It is guarded by Batcher.mu, except
// that the outcome is the submitter's once wake has said settled.
type ticket[T any] struct {
	wake chan signal // capacity 2: at most one lead, and then settled
	seq  uint64      // order of arrival

	arrived time.Duration
	due     time.Duration // when the answer must be there; never for none
	key     time.Duration // order of service; usually the earliest deadline first
	work    time.Duration // run time that it added to the queue
	guess   time.Duration // predicted time from arrival to answer
	probe   bool          // arrived when nothing was in the way: runs whatever the forecast
	light   bool          // of a light tenant: served at its turn, not only when its deadline is near
	yielded uint8         // times that its run has given way
	gone    bool          // its submitter lost interest while it ran
	at      [heaps]int
	bucket  *bucket[T] // while queued
	run     *run[T]    // while running

	tenant     *tenant[T]
	prev, next *Task[T] // among the tenant's queued tasks, by arrival

	timing Timing
	ended  time.Duration
	err    error
}

// signal is what a waiting submitter is woken for.
type signal uint8

const (
	lead    signal = iota // form a batch with your task in it, and run it
	settled               // your task has its outcome
)

// never is later than any key; there is room to add to it.
const never = time.Duration(1) << 60

// rows returns how many rows of a run t takes up: a task without rows counts
// as one, so that the number of tasks in a run is bounded too.
func (t *Task[T]) rows() int { return max(t.Rows, 1) }

// queue holds the waiting tasks of one class, by bucket.
type queue[T any] struct {
	tasks, rows int
	byID        map[uint64]*bucket[T]
	active      []*bucket[T] // those with tasks, in no order
}

// bucket holds waiting tasks that may share a run.
type bucket[T any] struct {
	id    uint64
	at    int // in queue.active
	rows  int
	tasks heap[T]
}

// idleBuckets is how many empty buckets are kept for their next task.
const idleBuckets = 64

func newQueue[T any]() queue[T] { return queue[T]{byID: make(map[uint64]*bucket[T])} }

// bucket returns the bucket with the id, which may be empty.
func (q *queue[T]) bucket(id uint64) *bucket[T] {
	bk := q.byID[id]
	if bk == nil {
		bk = &bucket[T]{id: id}
		q.byID[id] = bk
	}
	return bk
}

func (q *queue[T]) push(t *Task[T], id uint64) {
	bk := q.bucket(id)
	if bk.tasks.len() == 0 {
		bk.at = len(q.active)
		q.active = append(q.active, bk)
	}
	t.bucket = bk
	bk.tasks.push(t.key, t)
	bk.rows += t.rows()
	q.rows += t.rows()
	q.tasks++
}

func (q *queue[T]) remove(t *Task[T]) {
	bk := t.bucket
	t.bucket = nil
	bk.tasks.remove(t)
	bk.rows -= t.rows()
	q.rows -= t.rows()
	q.tasks--
	if bk.tasks.len() > 0 {
		return
	}
	last := q.active[len(q.active)-1]
	q.active[bk.at], last.at = last, bk.at
	q.active[len(q.active)-1] = nil
	q.active = q.active[:len(q.active)-1]
	if len(q.byID) > idleBuckets {
		delete(q.byID, bk.id)
	}
}

// earliest returns the active bucket whose head is first in order; there must
// be one.
func (q *queue[T]) earliest() *bucket[T] {
	first := q.active[0]
	for _, bk := range q.active[1:] {
		if bk.tasks.nodes[0].before(first.tasks.nodes[0]) {
			first = bk
		}
	}
	return first
}
