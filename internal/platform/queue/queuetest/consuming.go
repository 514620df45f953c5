package queuetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

var consuming = map[string]func(*fixture){
	"FailedMessagesComeAgainAfterTheDelay": redelivery,
	"RetryAfterIsRespected":                retryAfter,
	"LostLeaseGoesToAnother":               lostLease,
	"ExtendKeepsTheLease":                  extend,
	"PanicIsAnAttempt":                     panics,
	"ConcurrencyIsBounded":                 concurrency,
	"ConsumersOfANameShare":                share,
	"ConsumersOfALimitsStreamSeeAll":       fanOut,
	"FiltersSelect":                        filters,
	"WorkGoesToOneConsumer":                workOverlap,
	"WrongConsumersAreRefused":             wrongConsumers,
	"RepeatableMessagesAreDone":            repeatable,
	"StopLetsHandlersFinish":               stopFinishes,
	"StopGivesBackWhatDoesNotFinish":       stopGivesBack,
	"StopLeavesNothingLeased":              stopLeavesNothing,
}

func unavailable() *fault.Error { return fault.New(fault.Unavailable, "not now") }

func redelivery(f *fixture) {
	f.work()
	f.publish("k", 1)
	var l log
	f.consume(f.consumer(func(c *queue.Consumer) { c.Backoff.Min = 200 * time.Millisecond; c.Backoff.Max = time.Second }),
		func(_ context.Context, d queue.Delivery) error {
			l.add(d)
			if d.Attempt == 1 {
				return unavailable()
			}
			return nil
		})
	f.until("the second attempt", func() bool { return len(l.all()) == 2 })
	got := l.all()
	if got[1].Attempt != 2 || got[0].ID != got[1].ID || got[0].Sequence != got[1].Sequence {
		f.Errorf("first %+v, then %+v", got[0], got[1])
	}
	// From half the backoff on; a plain refusal comes back at once.
	if d := l.at[1].Sub(l.at[0]); d < 95*time.Millisecond {
		f.Errorf("tried again after %s", d)
	}
}

func retryAfter(f *fixture) {
	f.work()
	f.publish("k", 1)
	var l log
	f.consume(f.consumer(), func(_ context.Context, d queue.Delivery) error {
		l.add(d)
		if d.Attempt == 1 {
			return unavailable().WithRetryAfter(400 * time.Millisecond)
		}
		return nil
	})
	f.until("the second attempt", func() bool { return len(l.all()) == 2 })
	if d := l.at[1].Sub(l.at[0]); d < 390*time.Millisecond {
		f.Errorf("tried again after %s, before the error's time", d)
	}
}

// The first handler loses its lease while it hangs. The message goes to
// another, and what the first says afterwards counts for nothing: if its
// acknowledgement did, the third attempt would never come.
func lostLease(f *fixture) {
	f.work()
	f.publish("k", 1)
	var l log
	hang, hung, ended := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	f.consume(f.consumer(func(c *queue.Consumer) { c.Lease = 300 * time.Millisecond }), func(ctx context.Context, d queue.Delivery) error {
		l.add(d)
		switch d.Attempt {
		case 1:
			<-ctx.Done() // the handler learns of it
			ended <- context.Cause(ctx)
			<-hang
			hung <- d.Extend(context.WithoutCancel(ctx))
			return nil
		case 2:
			close(hang)
			f.code(<-hung, fault.Conflict, "lease_lost")
			time.Sleep(100 * time.Millisecond) // for the first one's return to do its harm
			return unavailable()
		}
		return nil
	})
	f.until("the third attempt", func() bool { return len(l.all()) == 3 })
	if err := <-ended; err == nil {
		f.Error("the handler's context ended without a cause")
	}
	if n := len(f.dead()); n != 0 {
		f.Errorf("%d dead letters", n)
	}
}

func extend(f *fixture) {
	f.work()
	f.publish("k", 1)
	var l log
	done := make(chan struct{})
	f.consume(f.consumer(func(c *queue.Consumer) { c.Lease = 500 * time.Millisecond }), func(ctx context.Context, d queue.Delivery) error {
		l.add(d)
		for range 10 {
			time.Sleep(150 * time.Millisecond)
			if err := d.Extend(ctx); err != nil {
				f.Errorf("Extend: %v", err)
			}
		}
		close(done)
		return nil
	})
	<-done
	time.Sleep(700 * time.Millisecond) // a lease more, for an acknowledgement that did not count
	if got := l.all(); len(got) != 1 {
		f.Errorf("%d deliveries of a message whose lease was kept", len(got))
	}
}

func panics(f *fixture) {
	f.work()
	f.publish("k", 1)
	var l log
	f.consume(f.consumer(), func(_ context.Context, d queue.Delivery) error {
		l.add(d)
		if d.Attempt == 1 {
			panic("a defect")
		}
		return nil
	})
	f.until("the attempt after the panic", func() bool { return len(l.all()) == 2 })
}

func concurrency(f *fixture) {
	f.work()
	f.publish("a", 30)
	f.publish("b", 30)
	for _, ordered := range []bool{false, true} {
		var l log
		var now, most atomic.Int64
		stop := f.consume(f.consumer(func(c *queue.Consumer) {
			c.Concurrency, c.Ordered, c.Filters = 3, ordered, []string{f.subject(map[bool]string{false: "a", true: "b"}[ordered])}
			c.Name = map[bool]string{false: "a", true: "b"}[ordered]
		}), func(_ context.Context, d queue.Delivery) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(5 * time.Millisecond)
			now.Add(-1)
			l.add(d)
			return nil
		})
		f.until("all", func() bool { return len(l.ids()) == 30 })
		stop()
		if n := most.Load(); n > 3 || !ordered && n < 2 || ordered && n != 1 {
			f.Errorf("ordered %t: %d handlers ran at once, 3 may", ordered, n)
		}
	}
}

func share(f *fixture) {
	f.work()
	var logs [2]log
	var came [2]chan struct{}
	for i := range logs {
		came[i] = make(chan struct{})
		come := sync.OnceFunc(func() { close(came[i]) })
		f.consume(f.consumer(func(c *queue.Consumer) { c.Concurrency = 2 }), func(ctx context.Context, d queue.Delivery) error {
			come()
			for _, c := range came { // neither does all the work before the other has begun
				<-c
			}
			return logs[i].record(ctx, d)
		})
	}
	for i := range 4 {
		f.publish(string(rune('a'+i)), 25)
	}
	f.until("all messages", func() bool { return len(logs[0].all())+len(logs[1].all()) >= 100 && f.empty() })
	if a, b := len(logs[0].all()), len(logs[1].all()); a+b != 100 {
		f.Errorf("one had %d, the other %d of 100", a, b)
	}
}

func fanOut(f *fixture) {
	f.ensure()
	f.publish("a", 20)
	var logs [2]log
	for i := range logs {
		f.consume(f.consumer(func(c *queue.Consumer) { c.Name = string(rune('a' + i)) }), logs[i].record)
	}
	for i := range logs {
		f.until("all messages", func() bool { return len(logs[i].ids()) == 20 })
	}
	if b, err := f.q.Bounds(f.ctx, f.stream); err != nil || b != (queue.Bounds{First: 1, Last: 20}) {
		f.Errorf("bounds %v, %v: a limits stream keeps what was handled", b, err)
	}
}

func filters(f *fixture) {
	f.work()
	f.publish("a.x", 3)
	f.publish("b.x", 3)
	f.publish("b.y.z", 3)
	f.publish("c", 3)
	for filter, want := range map[string]int{"a.*": 3, "b.>": 6, "c": 3} {
		for _, ordered := range []bool{true} {
			var l log
			stop := f.consume(f.consumer(func(c *queue.Consumer) {
				c.Name, c.Filters, c.Ordered = "f-"+string(filter[0]), []string{f.subject(filter)}, ordered
			}), l.record)
			f.until(filter, func() bool { return len(l.ids()) == want })
			stop()
			for _, d := range l.all() {
				if !queue.Matches(f.subject(filter), d.Subject) {
					f.Errorf("%s got %s", filter, d.Subject)
				}
			}
		}
	}
}

func workOverlap(f *fixture) {
	f.work()
	stop := f.consume(f.consumer(func(c *queue.Consumer) { c.Filters = []string{f.subject("a.>")} }), new(log).record)
	var l log
	f.publish("a.x", 1)
	f.until("the first consumer works", func() bool {
		b, err := f.q.Bounds(f.ctx, f.stream)
		return err == nil && b.First > b.Last
	})
	second := f.consumer(func(c *queue.Consumer) { c.Name, c.Filters = "second", []string{f.subject("a.x")} })
	f.code(f.q.Consume(f.ctx, second, l.record), fault.Conflict, "queue_config_conflict")
	stop()
}

func wrongConsumers(f *fixture) {
	f.work()
	for _, spoil := range []func(*queue.Consumer){
		func(c *queue.Consumer) { c.Name = "a.b" },
		func(c *queue.Consumer) { c.Filters = []string{"a..b"} },
		func(c *queue.Consumer) { c.Concurrency = -1 },
		func(c *queue.Consumer) { c.Lease = time.Millisecond },
		func(c *queue.Consumer) { c.MaxAttempts = -1 },
		func(c *queue.Consumer) { c.Backoff.Min = time.Hour; c.Backoff.Max = time.Minute },
	} {
		f.code(f.q.Consume(f.ctx, f.consumer(spoil), nil), fault.Invalid, "queue_config_invalid")
	}
}

// Handlers that run when the consumer is stopped finish, and what they did is
// acknowledged; nothing new begins.
func stopFinishes(f *fixture) {
	f.work()
	f.publish("k", 10)
	var begun, l log
	release := make(chan struct{})
	stop := f.consume(f.consumer(), func(ctx context.Context, d queue.Delivery) error {
		begun.add(d)
		<-release
		return l.record(ctx, d)
	})
	f.until("four handlers", func() bool { return len(begun.all()) == 4 })
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	stop()
	if a, b := len(begun.all()), len(l.all()); a != 4 || b != 4 {
		f.Errorf("%d handlers began and %d finished, want 4", a, b)
	}
	f.consume(f.consumer(), l.record)
	f.until("the rest", func() bool { return len(l.ids()) == 10 })
	for id, n := range l.ids() {
		if n != 1 {
			f.Errorf("%s was handled %d times", id, n)
		}
	}
}

// A handler that does not finish in the drain time is cancelled, and another
// gets its message long before the lease ends, be it with the last attempt.
func stopGivesBack(f *fixture) {
	f.work()
	f.publish("k", 4)
	var begun, l log
	short := func(c *queue.Consumer) { c.Drain = 50 * time.Millisecond; c.Lease = time.Minute }
	stop := f.consume(f.consumer(short), func(ctx context.Context, d queue.Delivery) error {
		begun.add(d)
		<-ctx.Done()
		return fault.Wrap(fault.Internal, ctx.Err(), "the store was interrupted")
	})
	f.until("four handlers", func() bool { return len(begun.all()) == 4 })
	stop()
	f.consume(f.consumer(short), l.record)
	f.until("all again", func() bool { return len(l.ids()) == 4 })
	if n := len(f.dead()); n != 0 {
		f.Errorf("%d dead letters", n)
	}
}

// A message that was on its way to a consumer while that was stopped is given
// back, too: nobody waits for the end of a lease that nobody knows of.
func stopLeavesNothing(f *fixture) {
	f.work()
	var l log
	long := f.consumer(func(c *queue.Consumer) { c.Lease = 10 * time.Minute; c.MaxAttempts = 1000 }) // a stop counts as an attempt
	for i := range 15 {
		stop := f.consume(long, l.record)
		go func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			stop()
		}()
		for j := range 20 {
			if err := f.q.Publish(f.ctx, f.message("k", 20*i+j)); err != nil {
				f.Fatal(err)
			}
		}
		stop()
	}
	f.consume(long, l.record)
	f.until("all messages", func() bool { return len(l.ids()) == 15*20 && f.empty() })
}

// Who does not wait for an answer is rid of the messages all the same, and fails as others do.
func repeatable(f *fixture) {
	f.work()
	f.publish("k", 20)
	var l log
	f.consume(f.consumer(func(c *queue.Consumer) {
		c.Repeatable = true
		c.Backoff.Min, c.Backoff.Max = time.Millisecond, time.Millisecond
	}),
		func(_ context.Context, d queue.Delivery) error {
			l.add(d)
			if d.Attempt == 1 && len(l.all()) == 1 {
				return unavailable()
			}
			return nil
		})
	f.until("an empty stream", func() bool {
		b, err := f.q.Bounds(f.ctx, f.stream)
		return err == nil && b.First > b.Last
	})
	if n := len(l.all()); n != 21 {
		f.Errorf("%d deliveries of 20 messages, one of which failed once", n)
	}
}
