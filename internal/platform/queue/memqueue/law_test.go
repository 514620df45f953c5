package memqueue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// fate is what a message's handler does at each attempt; after the last, it
// succeeds.
type fate []string

// attempts returns how often the handler runs and whether the message dies.
func (f fate) attempts(limit int) (n int, dies bool) {
	for i, step := range f {
		if step == "poison" || i+1 == limit && step != "hang" {
			return i + 1, true
		}
		if i+1 == limit { // hung with the last attempt: buried on the next delivery
			return limit, true
		}
	}
	return len(f) + 1, false
}

// Whatever handlers do, every message that was accepted is handled or becomes
// a dead letter, never both and never neither, after exactly the attempts that
// its fate gives it; in an ordered consumer the subjects keep their order.
func TestEveryMessageSettlesOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(rt, "max attempts")
		consumers := rapid.IntRange(1, 3).Draw(rt, "consumers")
		ordered := rapid.Bool().Draw(rt, "ordered")
		fates := map[string]fate{}
		var messages []queue.Message
		for i := range rapid.IntRange(1, 25).Draw(rt, "messages") {
			id := fmt.Sprintf("m%d", i)
			fates[id] = rapid.SliceOfN(rapid.SampledFrom([]string{"fail", "panic", "hang", "poison"}), 0, 3).Draw(rt, "fate")
			messages = append(messages, queue.Message{ID: id, Subject: "s." + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "subject")})
		}
		synctest.Test(t, func(t *testing.T) {
			w := &world{fates: fates, ran: map[string]int{}, done: map[string]int{}, bySubject: map[string][]uint64{}}
			w.run(t, messages, consumers, queue.Consumer{
				Name: "c", Stream: "S", Concurrency: 3, Ordered: ordered, MaxAttempts: limit, Lease: 10 * time.Second,
			})
			for id, f := range fates {
				n, dies := f.attempts(limit)
				if w.ran[id] != n || (w.done[id] == 1) == dies || slices.Contains(w.dead, id) != dies {
					rt.Errorf("%s with fate %q and limit %d ran %d times (want %d), done %d times, dead %t (want %t)",
						id, f, limit, w.ran[id], n, w.done[id], slices.Contains(w.dead, id), dies)
				}
			}
			for subject, list := range w.bySubject {
				if ordered && !slices.IsSorted(list) {
					rt.Errorf("%s was handled in the order %v", subject, list)
				}
			}
		})
	})
}

// world is what happens in one run.
type world struct {
	fates map[string]fate

	mu        sync.Mutex
	ran, done map[string]int
	bySubject map[string][]uint64
	dead      []string
}

func (w *world) handle(ctx context.Context, d queue.Delivery) error {
	w.mu.Lock()
	step := "succeed"
	if n := w.ran[d.ID]; n < len(w.fates[d.ID]) {
		step = w.fates[d.ID][n]
	}
	w.ran[d.ID]++
	w.bySubject[d.Subject] = append(w.bySubject[d.Subject], d.Sequence)
	w.mu.Unlock()
	time.Sleep(time.Duration(d.Sequence%7) * 100 * time.Millisecond)
	switch step {
	case "fail":
		return fault.New(fault.Unavailable, "not now")
	case "panic":
		panic(step)
	case "poison":
		return fault.New(fault.Invalid, "never")
	case "hang":
		<-ctx.Done()
		time.Sleep(time.Second)
		return nil
	}
	w.mu.Lock()
	w.done[d.ID]++
	w.mu.Unlock()
	return nil
}

func (w *world) run(t *testing.T, messages []queue.Message, consumers int, c queue.Consumer) {
	q, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ensure(t.Context(), queue.Stream{Name: "S", Subjects: []string{"s.>"}, Retention: queue.Work}); err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), messages...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range consumers {
		all.Go(func() {
			if err := q.Consume(ctx, c, w.handle); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(2 * time.Hour) // of the bubble's time
	cancel()
	all.Wait()
	list, err := q.Dead(t.Context(), "S", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		w.dead = append(w.dead, d.Message.ID)
	}
	if b, err := q.Bounds(t.Context(), "S"); err != nil || b.First <= b.Last {
		t.Errorf("the stream still holds %v, %v", b, err)
	}
}
