package export

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// until waits for a condition, and says whether it came before ctx ended.
func until(ctx context.Context, is func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// An attempt that counts for longer than a lease stays alive, in the store and in the queue.
func TestCountingIsAlive(t *testing.T) {
	b := newBed(t, 100, Config{})
	b.beat = time.Millisecond
	e := b.create(t, Request{Format: encode.CSV})
	heard := make(chan struct{}, 1)
	b.things.count = func(ctx context.Context) error {
		for range 5 { // of each a sign of life makes up for
			b.pass(lease - time.Second)
			due := b.time().Add(lease)
			if !until(ctx, func() bool { return !b.find(t, e.ID).Due.Before(due) }) {
				return errors.New("no sign of life in the store")
			}
			select {
			case <-heard:
			case <-time.After(20 * time.Second):
				return errors.New("no sign of life in the queue")
			}
		}
		return nil
	}
	_ = b.attempt(t.Context(), repo.Scope{Tenant: "acme"}, e.ID, func(context.Context) error {
		select {
		case heard <- struct{}{}:
		default:
		}
		return nil
	})
	if e = b.find(t, e.ID); e.Status != Completed || e.Attempt != 1 {
		t.Errorf("%s, attempt %d: %+v", e.Status, e.Attempt, e.Failure)
	}
}

// An attempt that is not wanted any more ends also where it counts.
func TestCancelStopsCounting(t *testing.T) {
	b := newBed(t, 100, Config{})
	b.beat = time.Millisecond
	e := b.create(t, Request{Format: encode.CSV})
	b.things.count = func(ctx context.Context) error {
		if _, err := b.Cancel(b.ctx, e.ID); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
			t.Error("it goes on")
			return nil
		}
	}
	b.run(e.ID)
	if e = b.find(t, e.ID); e.Status != Cancelled || len(b.objects(t)) > 0 {
		t.Errorf("%s, %q", e.Status, b.objects(t))
	}
}

// An attempt that the queue takes for dead counts: it is not that of a worker which
// stops, and is not begun without end.
func TestLostLeasesAreTries(t *testing.T) {
	b := newBed(t, 100, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	for range maxTries {
		queued, lose := context.WithCancelCause(context.Background())
		handling, end := context.WithCancel(queued)
		b.things.count = func(ctx context.Context) error { lose(queue.ErrLeaseLost); <-ctx.Done(); return ctx.Err() }
		b.runUntil(handling, e.ID)
		end()
		b.pass(time.Hour)
	}
	if e = b.find(t, e.ID); e.Status != Failed || e.Failure.Code != "lease_lost" || e.Tries != maxTries {
		t.Errorf("%s after %d tries: %+v", e.Status, e.Tries, e.Failure)
	}
}

// An export whose workers die each time fails.
func TestDyingWorkersEnd(t *testing.T) {
	b := newBed(t, 3000, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	for range maxTries {
		b.bucket.lives(1) // the commit that takes it is its last
		b.run(e.ID)
		b.bucket.lives(-1)
		b.pass(2 * lease)
		if err := b.Remind(context.Background(), "acme"); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Second)
	}
	if e = b.find(t, e.ID); e.Final() || e.Tries != maxTries {
		t.Fatalf("%s, %d tries", e.Status, e.Tries)
	}
	b.run(e.ID)
	if e = b.find(t, e.ID); e.Status != Failed || e.Failure.Code != "attempts_exhausted" || e.Attempt != maxTries {
		t.Errorf("%s by attempt %d: %+v", e.Status, e.Attempt, e.Failure)
	}
	if err := e.Usable(b.time()); fault.CodeOf(err) != "export_failed" {
		t.Error(err)
	}
}
