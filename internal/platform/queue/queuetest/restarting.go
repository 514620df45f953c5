package queuetest

import (
	"context"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

var restarting = map[string]func(*fixture){
	"RestartKeepsMessagesAndPositions": restartKeeps,
	"RestartOfALimitsStreamKeepsIDs":   restartKeepsIDs,
}

// restart ends the queue and goes on with another on the same data.
func (f *fixture) restart() {
	f.Helper()
	f.q = f.env.Restart(f)
}

// Stored messages, dead letters, attempts and what is done survive.
func restartKeeps(f *fixture) {
	f.work()
	sent := f.publish("ok", 10)
	bad := f.publish("invalid", 1)[0]
	var first log
	stop := f.consume(f.consumer(func(c *queue.Consumer) { c.Concurrency = 1; c.Drain = 200 * time.Millisecond }), func(ctx context.Context, d queue.Delivery) error {
		first.add(d)
		if d.ID == sent[4].ID {
			return unavailable().WithRetryAfter(300 * time.Millisecond)
		}
		if d.ID == sent[7].ID {
			<-ctx.Done()
			return ctx.Err()
		}
		return poisonous(ctx, d)
	})
	f.until("the eighth", func() bool { return len(first.all()) == 8 })
	// Seven are settled, one of them to come again; the eighth is given back.
	stop()
	f.restart()
	var second log
	f.consume(f.consumer(), func(ctx context.Context, d queue.Delivery) error {
		second.add(d)
		return poisonous(ctx, d)
	})
	f.until("the rest", func() bool { return f.empty() && len(f.dead()) == 1 })
	want := map[string]int{sent[4].ID: 2, sent[7].ID: 2, sent[8].ID: 1, sent[9].ID: 1, bad.ID: 1}
	for _, d := range second.all() {
		if want[d.ID] != d.Attempt {
			f.Errorf("%s is at attempt %d, want %d (0: it was done)", d.ID, d.Attempt, want[d.ID])
		}
		delete(want, d.ID)
	}
	if len(want) > 0 {
		f.Errorf("lost: %v", want)
	}
	f.restart()
	if d := f.dead()[bad.ID]; d.Code != "row_invalid" {
		f.Errorf("the dead letter is %+v", d)
	}
}

// Only a stream that keeps its messages knows their IDs after a restart.
func restartKeepsIDs(f *fixture) {
	f.ensure()
	sent := f.publish("k", 5)
	f.restart()
	if err := f.q.Publish(f.ctx, sent...); err != nil {
		f.Fatal(err)
	}
	f.want(queue.Read{From: 3}, 3, 4, 5)
	_, err := f.read(queue.Read{From: 7})
	f.code(err, fault.Conflict, "sequence_gap")
}
