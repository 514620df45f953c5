package export

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/internal/batch/encode"
	"sluice/internal/platform/blob"
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

// crossed is a store in which something else happens before a commit, once.
type crossed struct {
	repo.Driver
	before func()
}

func (c *crossed) Commit(ctx context.Context, set *repo.Changeset) error {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.Driver.Commit(ctx, set)
}

// An attempt that completes its export while it is taken for dead keeps the files.
func TestRemindersCrossCompletion(t *testing.T) {
	b := newBed(t, 1, Config{})
	e := b.create(t, Request{Format: encode.CSV})
	parts := []Part{{Name: "a.csv", Object: "acme/exports/" + string(e.ID) + "/a.csv"}}
	if _, err := b.bucket.Put(t.Context(), parts[0].Object, strings.NewReader("a"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	change := func(f func(e *Export, now time.Time) error) {
		t.Helper()
		if _, err := b.update(t.Context(), repo.Scope{Tenant: "acme"}, e.ID, f); err != nil {
			t.Fatal(err)
		}
	}
	change(func(e *Export, now time.Time) error { return e.Take(now, time.Hour) })
	change(func(e *Export, now time.Time) error { return e.Advance(1, Progress{}, parts, now) })
	b.pass(2 * lease)
	other := *b.Service
	other.store = repo.New(&crossed{b.store.Driver(), func() {
		change(func(e *Export, now time.Time) error { return e.Finish(1, Progress{}, parts, now, time.Hour) })
	}}, repo.Config{Now: b.time})
	if err := other.Remind(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	if e = b.find(t, e.ID); e.Status != Completed || len(b.objects(t)) != 1 {
		t.Errorf("%s, with %q", e.Status, b.objects(t))
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
