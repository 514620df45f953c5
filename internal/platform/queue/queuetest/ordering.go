package queuetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"sluice/internal/platform/queue"
)

var ordering = map[string]func(*fixture){
	"OrderHoldsThroughFailuresAndProcesses": order,
	"AFailingSubjectBlocksOnlyItsLane":      blockedLane,
	"OrderHoldsThroughLostLeases":           orderLostLease,
}

// ledger checks that messages of a subject are handled one by one, in order.
type ledger struct {
	mu   sync.Mutex
	f    *fixture
	done map[string]int // subject to how many are done
	busy map[string]bool
}

// begin is called with the number of a message before it is handled.
func (l *ledger) begin(subject string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[subject] {
		l.f.Errorf("%s: two handlers at once", subject)
	}
	if l.done[subject] != n {
		l.f.Errorf("%s: message %d after %d were done", subject, n, l.done[subject])
	}
	l.busy[subject] = true
}

func (l *ledger) end(subject string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[subject] = false
	if ok {
		l.done[subject]++
	}
}

func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.done {
		n += d
	}
	return n
}

func newLedger(f *fixture) *ledger {
	return &ledger{f: f, done: map[string]int{}, busy: map[string]bool{}}
}

// number returns the number that publish gave a message.
func number(d queue.Delivery) (n int) {
	var key string
	fmt.Sscanf(string(d.Data), "%s %d", &key, &n)
	return n
}

// Two processes share the work, a third of the messages fails once, and one
// process is stopped and started again meanwhile.
func order(f *fixture) {
	f.work()
	l := newLedger(f)
	c := f.consumer(func(c *queue.Consumer) {
		c.Ordered = true
		c.Backoff.Max = 20 * time.Millisecond
		c.Drain = 20 * time.Millisecond
	})
	handle := func(ctx context.Context, d queue.Delivery) error {
		l.begin(d.Subject, number(d))
		h := fnv.New32()
		h.Write([]byte(d.ID))
		ok := d.Attempt > 1 || h.Sum32()%3 > 0
		time.Sleep(time.Duration(h.Sum32()%1000) * time.Microsecond)
		l.end(d.Subject, ok)
		if !ok {
			return unavailable()
		}
		return nil
	}
	f.consume(c, handle)
	stop := f.consume(c, handle)
	for i := range 12 {
		f.publish(fmt.Sprintf("k%d", i), 15)
	}
	stop()
	f.consume(c, handle)
	f.until("all messages", func() bool { return l.total() == 12*15 })
	if n := len(f.dead()); n != 0 {
		f.Errorf("%d dead letters", n)
	}
}

func blockedLane(f *fixture) {
	f.work()
	var l log
	f.consume(f.consumer(func(c *queue.Consumer) { c.Ordered = true; c.MaxAttempts = 1000 }), func(_ context.Context, d queue.Delivery) error {
		if d.Subject == f.subject("stuck") && number(d) == 0 {
			return unavailable()
		}
		l.add(d)
		return nil
	})
	f.publish("stuck", 5)
	for i := range 12 {
		f.publish(fmt.Sprintf("k%d", i), 2)
	}
	// Some of the twelve share the lane of the stuck one; most do not.
	f.until("other subjects", func() bool { return len(l.ids()) >= 12 })
	for _, d := range l.all() {
		if d.Subject == f.subject("stuck") {
			f.Errorf("%s overtook the one before it", d.ID)
		}
	}
}

// A handler that hangs beyond its lease: the message comes again before the
// next of its subject.
func orderLostLease(f *fixture) {
	f.work()
	var l log
	f.consume(f.consumer(func(c *queue.Consumer) { c.Ordered = true; c.Lease = 200 * time.Millisecond }), func(ctx context.Context, d queue.Delivery) error {
		l.add(d)
		if d.Attempt == 1 && number(d) == 1 {
			<-ctx.Done()
		}
		return nil
	})
	f.publish("k", 3)
	f.until("four deliveries", func() bool { return len(l.all()) == 4 })
	for i, want := range []int{0, 1, 1, 2} {
		if got := number(l.all()[i]); got != want {
			f.Errorf("delivery %d is message %d, want %d", i, got, want)
		}
	}
}
