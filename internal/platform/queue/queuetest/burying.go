package queuetest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

var burying = map[string]func(*fixture){
	"DeadLettersAreThePoisonAndNothingElse": poison,
	"AttemptsWithoutOutcomeAreBuried":       exhausted,
	"ReplayHandsTheMessageOutAgain":         replay,
	"DiscardRemoves":                        discard,
	"FullDeadLettersLoseNothing":            fullDead,
}

// poison handles messages by what their key asks for.
func poisonous(_ context.Context, d queue.Delivery) error {
	switch {
	case strings.Contains(d.Subject, "invalid"):
		return fault.New(fault.Invalid, "line 1\nline 2: ü").WithCode("row_invalid")
	case strings.Contains(d.Subject, "internal"):
		return fmt.Errorf("password=hunter2")
	case strings.Contains(d.Subject, "panic"):
		panic("a defect")
	case strings.Contains(d.Subject, "flaky") && d.Attempt < 3:
		return unavailable()
	}
	return nil
}

func poison(f *fixture) {
	f.work()
	want := map[string]queue.DeadLetter{}
	plant := func(key, code string, attempts int) {
		m := f.message(key, 1)
		m.Header = queue.Header{queue.HeaderTenant: "acme"}
		if err := f.q.Publish(f.ctx, m); err != nil {
			f.Fatal(err)
		}
		want[m.ID] = queue.DeadLetter{ID: queue.DeadID("c", m.ID), Stream: f.stream, Consumer: "c", Code: code, Attempts: attempts, Message: m}
	}
	for i, key := range []string{"a", "flaky", "b"} {
		f.publish(key, 20)
		plant(fmt.Sprintf("invalid%d", i), "row_invalid", 1)
		plant(fmt.Sprintf("internal%d", i), "internal", 3)
		plant(fmt.Sprintf("panic%d", i), "handler_panic", 3)
	}
	var done atomic.Int64
	f.consume(f.consumer(), func(ctx context.Context, d queue.Delivery) error {
		err := poisonous(ctx, d)
		if err == nil {
			done.Add(1)
		}
		return err
	})
	f.until("all settled", func() bool { return len(f.dead()) == len(want) && done.Load() == 60 && f.empty() })
	for id, got := range f.dead() {
		w := want[id]
		if strings.Contains(got.Reason, "hunter2") || got.Reason == "" {
			f.Errorf("reason %q", got.Reason)
		}
		if got.Message.Sequence == 0 || got.Message.Time.IsZero() || got.Time.Before(got.Message.Time.Add(-time.Second)) {
			f.Errorf("sequence %d of %s, dead at %s", got.Message.Sequence, got.Message.Time, got.Time)
		}
		w.Reason, w.Sequence, w.Time, w.Message.Sequence, w.Message.Time = got.Reason, got.Sequence, got.Time, got.Message.Sequence, got.Message.Time
		if diff := cmp.Diff(w, got); diff != "" {
			f.Errorf("dead letter (-want +got):\n%s", diff)
		}
	}
	f.pages(len(want))
}

// pages reads the dead letters two by two.
func (f *fixture) pages(want int) {
	f.Helper()
	n, after := 0, uint64(0)
	for {
		page, err := f.q.Dead(f.ctx, f.stream, after, 2)
		if err != nil || len(page) > 2 {
			f.Fatalf("a page of %d: %v", len(page), err)
		}
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			if d.Sequence <= after {
				f.Errorf("sequence %d after %d", d.Sequence, after)
			}
			after = d.Sequence
			n++
		}
	}
	if n != want {
		f.Errorf("%d dead letters in pages, want %d", n, want)
	}
}

// empty reports whether the work stream holds nothing more.
func (f *fixture) empty() bool {
	b, err := f.q.Bounds(f.ctx, f.stream)
	return err == nil && b.First > b.Last
}

// A process that dies with a message, again and again, never says that it
// failed. The message must not be tried for ever.
func exhausted(f *fixture) {
	f.work()
	m := f.publish("k", 1)[0]
	var l log
	f.consume(f.consumer(func(c *queue.Consumer) { c.Lease = 100 * time.Millisecond; c.MaxAttempts = 2 }), func(ctx context.Context, d queue.Delivery) error {
		l.add(d)
		<-ctx.Done()
		return nil
	})
	f.until("the dead letter", func() bool { return len(f.dead()) == 1 && f.empty() })
	if d := f.dead()[m.ID]; d.Code != queue.CodeExhausted || len(l.all()) != 2 {
		f.Errorf("dead letter %+v after %d attempts, want code %s after 2", d, len(l.all()), queue.CodeExhausted)
	}
}

func replay(f *fixture) {
	f.work()
	m := f.publish("k", 1)[0]
	var l log
	var broken atomic.Bool
	broken.Store(true)
	f.consume(f.consumer(), func(_ context.Context, d queue.Delivery) error {
		l.add(d)
		if broken.Load() {
			return fault.New(fault.Invalid, "not understood")
		}
		return nil
	})
	id := queue.DeadID("c", m.ID)
	for deaths := 1; deaths <= 2; deaths++ { // still broken: it dies again and is one dead letter again
		f.until("the dead letter", func() bool { return len(f.dead()) == 1 && f.empty() && len(l.all()) == deaths })
		broken.Store(deaths == 1)
		if err := f.q.Replay(f.ctx, f.stream, id); err != nil {
			f.Fatalf("Replay: %v", err)
		}
	}
	f.until("the third delivery", func() bool { return len(l.all()) == 3 && f.empty() })
	last := l.all()[2]
	if last.ID != m.ID || last.Subject != m.Subject || string(last.Data) != string(m.Data) || last.Attempt != 1 {
		f.Errorf("replayed as %+v", last)
	}
	if n := len(f.dead()); n != 0 {
		f.Errorf("%d dead letters after the replay", n)
	}
	f.code(f.q.Replay(f.ctx, f.stream, id), fault.NotFound, "dead_letter_not_found")
}

func discard(f *fixture) {
	f.work()
	a, b := f.publish("invalid1", 1)[0], f.publish("invalid2", 1)[0]
	f.consume(f.consumer(), poisonous)
	f.until("two dead letters", func() bool { return len(f.dead()) == 2 })
	id := queue.DeadID("c", a.ID)
	if err := f.q.DiscardDead(f.ctx, f.stream, id); err != nil {
		f.Fatal(err)
	}
	f.code(f.q.DiscardDead(f.ctx, f.stream, id), fault.NotFound, "dead_letter_not_found")
	_, err := f.q.DeadByID(f.ctx, f.stream, id)
	f.code(err, fault.NotFound, "dead_letter_not_found")
	if d, err := f.q.DeadByID(f.ctx, f.stream, queue.DeadID("c", b.ID)); err != nil || d.Message.ID != b.ID {
		f.Errorf("the other is %+v, %v", d, err)
	}
}

// When the dead letters have no room, poison stays in its stream.
func fullDead(f *fixture) {
	f.work(func(s *queue.Stream) { s.MaxBytes = 100 << 10 })
	var buried int
	seen := map[string]bool{}
	for i := range 5 { // each is about a third of the room
		m := f.message("invalid", i)
		m.Data = make([]byte, 30<<10)
		f.until("room for the next", func() bool { return f.q.Publish(f.ctx, m) == nil })
		if i == 0 {
			f.consume(f.consumer(func(c *queue.Consumer) { c.MaxAttempts = 1 }), poisonous)
		}
	}
	f.until("the dead letters are full", func() bool { return len(f.dead()) == 3 })
	if f.empty() {
		f.Error("messages left their stream, and are no dead letters")
	}
	f.until("all five, as room is made", func() bool {
		for id, d := range f.dead() {
			if f.q.DiscardDead(f.ctx, f.stream, d.ID) == nil {
				buried++
				seen[id] = true
			}
		}
		return len(seen) == 5 && f.empty()
	})
	if buried != 5 {
		f.Errorf("%d dead letters of 5 messages", buried)
	}
}
