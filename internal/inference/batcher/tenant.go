package batcher

import "time"

// tenant is the account of one tenant with queued work.
type tenant[T any] struct {
	at         int           // in tenants.active
	work       time.Duration // predicted run time of its queued online tasks
	tasks      int           // how many these are
	first      *Task[T]      // its queued online tasks, by arrival
	last       *Task[T]
	bulkFinish time.Duration // virtual time at which its bulk work so far is paid for
	used       usage         // of late, online
	edge       time.Duration // the pressure at which its last task was refused as late; 0 where that was accepted
}

// usage is accepted work that fades: after as long as memory all of it, so that a
// steady rate of work comes to that rate times memory.
type usage struct {
	work time.Duration
	at   time.Duration
}

func (u *usage) fade(now, memory time.Duration) time.Duration {
	gone := float64(now-u.at) / float64(memory)
	u.work = time.Duration(float64(u.work) * max(1-gone, 0))
	u.at = now
	return u.work
}

// tenants keeps backlogged tenants to their fair share, counted in predicted
// run time and not in requests.
//
// Online, every accepted task is served in time, so fairness is a question of
// who is accepted: when there is no room, a tenant with less queued work takes
// the place of the newest task of the tenant with the most. Bulk work always
// waits, so there it is a question of order: start-time fair queueing.
//
// A tenant that has lately used less than a fair share is light. It hardly waits for others'
// work: its tasks are served as if it had its share to itself (turn), and those of everybody
// else are accepted only if they would be in time behind such tasks (headroom).
type tenants[T any] struct {
	byName map[string]*tenant[T]
	active []*tenant[T]  // those with queued online tasks
	now    time.Duration // virtual time of bulk work
	keep   int           // accounts before settled ones are forgotten
	used   usage         // by all, online
	memory time.Duration // of used
}

// keepTenants is how many accounts are kept at least.
const keepTenants = 1024

func newTenants[T any](memory time.Duration) tenants[T] {
	return tenants[T]{byName: make(map[string]*tenant[T]), keep: keepTenants, memory: max(memory, 1)}
}

const (
	rush     = 64  // a light task is ordered as if it had this part of its time at least: as soon as the demand tells apart
	reserve  = 8   // this part of a task's time is kept free for light ones, beside what those have used
	lightest = 0.8 // of a fair share of what there is: who has used less is light
	// mostHeadroom is the largest part of a task's time that is kept free for others.
	mostHeadroom = 0.5
	// alone is the part of all usage that others may have without mattering.
	alone = 0.01
)

// standing returns whether a tenant is light and, if not, which part of its tasks' time is
// kept free for light tenants.
func (ts *tenants[T]) standing(tn *tenant[T], now time.Duration, parallel int) (light bool, headroom float64) {
	own, all := float64(tn.used.fade(now, ts.memory)), float64(ts.used.fade(now, ts.memory))
	others := all - own
	if others <= alone*all {
		return false, 0
	}
	capacity := float64(ts.memory) * float64(parallel)
	if own*float64(ts.sharers(tn)) < lightest*max(all, capacity) {
		return true, 0
	}
	return false, min(others/capacity+1.0/reserve, mostHeadroom)
}

// sharers returns how many share with a tenant, itself among them: those with queued
// tasks, or one that has used something of late.
func (ts *tenants[T]) sharers(tn *tenant[T]) int {
	n := len(ts.active)
	if tn.first == nil {
		n++
	}
	return max(n, 2)
}

// turn returns how long it would take until a light tenant's next task began if the tenant
// had its fair share to itself: as long as its queued work takes there. A flood counts as
// light at first, and queues more than its share meanwhile; so other light tenants wait for
// no more of it than its share.
func (ts *tenants[T]) turn(tn *tenant[T], parallel int) time.Duration {
	return tn.work * time.Duration(ts.sharers(tn)) / time.Duration(parallel)
}

// charge books accepted work.
func (ts *tenants[T]) charge(tn *tenant[T], work, now time.Duration) {
	tn.used.work = tn.used.fade(now, ts.memory) + work
	ts.used.work = ts.used.fade(now, ts.memory) + work
}

func (ts *tenants[T]) get(name string) *tenant[T] {
	tn := ts.byName[name]
	if tn == nil {
		if len(ts.byName) >= ts.keep {
			ts.forget()
		}
		tn = &tenant[T]{}
		ts.byName[name] = tn
	}
	return tn
}

// forget drops the accounts that hold nothing which matters any more.
func (ts *tenants[T]) forget() {
	for name, tn := range ts.byName {
		if tn.first == nil && tn.bulkFinish <= ts.now && ts.used.at-tn.used.at > ts.memory {
			delete(ts.byName, name)
		}
	}
	ts.keep = max(keepTenants, 2*len(ts.byName))
}

// enter books a queued online task.
func (ts *tenants[T]) enter(t *Task[T]) {
	tn := t.tenant
	if tn.first == nil {
		tn.at = len(ts.active)
		ts.active = append(ts.active, tn)
		tn.first = t
	} else {
		tn.last.next = t
	}
	t.prev, t.next, tn.last = tn.last, nil, t
	tn.work += t.work
	tn.tasks++
}

// leave undoes enter.
func (ts *tenants[T]) leave(t *Task[T]) {
	tn := t.tenant
	if t.prev == nil {
		tn.first = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		tn.last = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.prev, t.next, t.tenant = nil, nil, nil
	tn.work -= t.work
	tn.tasks--
	if tn.first == nil {
		last := ts.active[len(ts.active)-1]
		ts.active[tn.at], last.at = last, tn.at
		ts.active[len(ts.active)-1] = nil
		ts.active = ts.active[:len(ts.active)-1]
	}
}

// heaviest returns the tenant with the most queued work, or nil.
func (ts *tenants[T]) heaviest() *tenant[T] {
	return ts.first(func(a, b *tenant[T]) bool { return a.work > b.work })
}

// giver returns the tenant that has to give another its place in a full queue: the one with
// the most queued tasks, if it then still has no fewer than the other; or nil. It counts
// places instead of run time: tasks that were queued before the cost table rose would seem
// cheaper than those that come now.
func (ts *tenants[T]) giver(to *tenant[T]) *tenant[T] {
	most := ts.first(func(a, b *tenant[T]) bool { return a.tasks > b.tasks })
	if most == nil || most == to || most.tasks-1 < to.tasks+1 {
		return nil
	}
	return most
}

// first returns the active tenant that comes before all others, or nil.
func (ts *tenants[T]) first(before func(a, b *tenant[T]) bool) *tenant[T] {
	var first *tenant[T]
	for _, tn := range ts.active {
		if first == nil || before(tn, first) {
			first = tn
		}
	}
	return first
}

// stamp returns the virtual time at which a bulk task of the given cost is to
// start, and charges its tenant for it.
func (ts *tenants[T]) stamp(tn *tenant[T], cost time.Duration) time.Duration {
	start := max(ts.now, tn.bulkFinish)
	tn.bulkFinish = start + max(cost, 1)
	return start
}

// passed says that bulk work up to the virtual time has been served.
func (ts *tenants[T]) passed(virtual time.Duration) { ts.now = max(ts.now, virtual) }
