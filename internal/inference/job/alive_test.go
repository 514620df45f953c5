package job

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// hanging is a Predictor whose first run hangs, whether or not it is told to stop.
type hanging struct {
	predict
	runs    atomic.Int64
	deaf    bool
	release chan struct{}
	done    func() int64 // nil: no run is ever completed
}

func (h *hanging) Progress(_, _ string) int64 {
	if h.done == nil {
		return 0
	}
	return h.done()
}

func (h *hanging) Predict(ctx context.Context, q Question) (Answer, error) {
	if h.runs.Add(1) > 1 {
		return Answer{Output: q.Input, Version: "1"}, nil
	}
	if h.deaf {
		<-h.release
		return Answer{Output: Message{Body: []byte(`"late"`)}, Version: "1"}, nil
	}
	select {
	case <-h.release:
		return Answer{Output: Message{Body: []byte(`"slow"`)}, Version: "1"}, nil
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// A run that hangs is taken over, also where it cannot be stopped: then it gives no
// more signs of life, and what it computes in the end does not count.
func TestHangingRunIsTakenOver(t *testing.T) {
	for name, deaf := range map[string]bool{"stops when told": false, "does not stop": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				h := &hanging{deaf: deaf, release: make(chan struct{})}
				stop := b.start(2, h)
				defer stop()
				release := sync.OnceFunc(func() { close(h.release) })
				defer release()
				id := b.submit("1", time.Time{})
				stall := Config{}.withDefaults().MaxStall
				time.Sleep(stall - timing.Lease)
				if p := b.find(id); p.Status != Running || p.Attempt != 1 {
					t.Errorf("taken over too early: %+v", p)
				}
				time.Sleep(3*timing.Lease + reconcile)
				if p := b.find(id); p.Status != Succeeded || p.Attempt != 2 || string(p.Output.Inline) != "1" {
					t.Errorf("not taken over: %+v", p)
				}
				release()
				time.Sleep(time.Second)
				if p := b.find(id); p.Attempt != 2 || string(p.Output.Inline) != "1" {
					t.Errorf("what hung counts: %+v", p)
				}
			})
		})
	}
}

// An attempt may take long while its model gets on, up to the longest time.
func TestSlowIsNotHanging(t *testing.T) {
	for wait, want := range map[time.Duration]Prediction{
		9 * time.Minute:  {Attempt: 1, Output: Payload{Inline: []byte(`"slow"`)}},
		11 * time.Minute: {Attempt: 2, Output: Payload{Inline: []byte("1")}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			h := &hanging{release: make(chan struct{}), done: func() int64 { return time.Now().Unix() }}
			stop := b.start(1, h)
			defer stop()
			id := b.submit("1", time.Time{})
			time.Sleep(wait)
			close(h.release)
			time.Sleep(time.Minute)
			if p := b.find(id); p.Status != Succeeded || p.Attempt != want.Attempt || string(p.Output.Inline) != string(want.Output.Inline) {
				t.Errorf("after %s: %+v", wait, p)
			}
		})
	}
}

// A worker that could not tell the queue that it lived has had its attempt: only one
// that stops in order gives it back.
func TestLostLeaseUsesAnAttempt(t *testing.T) {
	for cause, used := range map[error]int{queue.ErrLeaseLost: 1, errors.New("the program stops"): 0} {
		b := newBench(t)
		w := NewWorker(b.store, predict(func(ctx context.Context, _ []byte) (Answer, error) { return Answer{}, ctx.Err() }), inline{}, b.ward, Config{Timing: timing}, nil)
		scope := repo.Scope{Tenant: tenant, Actor: "system"}
		p, begun, err := w.start(t.Context(), scope, b.submit("1", time.Time{}), "1", false)
		if err != nil || !begun {
			t.Fatalf("%t, %v", begun, err)
		}
		ctx, lose := context.WithCancelCause(t.Context())
		lose(cause)
		freed := make(chan struct{})
		_ = w.attempt(ctx, scope, p, queue.Delivery{}, func() { close(freed) }) // what it says is for the queue
		<-freed                                                                 // the next orphan may go
		if now := b.find(p.ID); now.Status != Queued || now.used() != used {
			t.Errorf("%v: it is %s, and has used %d attempts, want %d", cause, now.Status, now.used(), used)
		}
	}
}

// What ends at once waits for no turn among orphans.
func TestOrphansThatEndNeedNoTurn(t *testing.T) {
	now := time.Now()
	p := Prediction{Status: Running, Due: now.Add(-time.Second), Attempt: 1}
	if !p.orphaned(now, timing) {
		t.Error("it is an orphan")
	}
	late, spent := p, p
	late.Deadline, spent.Attempt = now.Add(-time.Second), timing.Attempts
	if late.orphaned(now, timing) || spent.orphaned(now, timing) {
		t.Error("it ends, and waits for a turn")
	}
}
