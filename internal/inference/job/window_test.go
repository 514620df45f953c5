package job

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// runs notes in which order predictions are run, each of which takes a while.
type runs struct {
	mu    sync.Mutex
	order []string // the inputs
}

func (r *runs) predictor(each time.Duration) predict {
	return func(ctx context.Context, input []byte) (Answer, error) {
		r.mu.Lock()
		r.order = append(r.order, string(input))
		r.mu.Unlock()
		select {
		case <-time.After(each):
			return Answer{Output: Message{Body: input}, Version: "1"}, nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

func (b *bench) as(tenant, text string, p Priority) {
	b.t.Helper()
	ctx := access.With(b.t.Context(), &access.Principal{Tenant: tenant, Subject: "key_2", Permissions: access.SetOf(Run)})
	if _, err := cqrs.Send(ctx, b.bus, Submit{Model: "m", Input: Payload{Inline: []byte(text)}, Priority: p}); err != nil {
		b.t.Fatal(err)
	}
}

// slots is how many predictions run at once on a bench with one worker.
const slots = 4

// However much one tenant has queued, another's prediction is begun after no more
// than a window of the first's, and those that were running.
func TestOneTenantDelaysAnotherByAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		const many = 1_500
		for range many {
			b.as(tenant, `"acme"`, Normal)
		}
		var r runs
		stop := b.start(1, r.predictor(10*time.Millisecond))
		defer stop()
		time.Sleep(1500 * time.Millisecond)
		r.mu.Lock()
		before := len(r.order)
		r.mu.Unlock()
		b.as("other", `"other"`, Normal)
		time.Sleep(time.Second)
		r.mu.Lock()
		defer r.mu.Unlock()
		at := slices.Index(r.order, `"other"`)
		if before < many/4 || before > many/2 {
			t.Errorf("%d were run before: the test does not try what it should", before)
		}
		if at < 0 || at-before > window+slots {
			t.Errorf("begun after %d others, at most %d are allowed", at-before, window+slots)
		}
	})
}

// All that waits in the store is run, the urgent first, and the least urgent not
// last of all.
func TestPrioritiesOrderATenantsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		const each = 500
		for _, p := range []Priority{Low, Normal, High} {
			for range each {
				b.as(tenant, fmt.Sprintf("%q", p), p)
			}
		}
		var r runs
		stop := b.start(1, r.predictor(10*time.Millisecond))
		time.Sleep(6 * time.Second)
		stop()
		if len(r.order) != 3*each {
			t.Fatalf("%d of %d were run", len(r.order), 3*each)
		}
		mean := func(p Priority) (sum int) {
			for i, text := range r.order[window:] { // the first found the queue empty
				if text == fmt.Sprintf("%q", p) {
					sum += i
				}
			}
			return sum
		}
		high, normal, low := mean(High)/each, mean(Normal)/each, mean(Low)/(each-window)
		if high >= normal || normal >= low {
			t.Errorf("mean places: high %d, normal %d, low %d", high, normal, low)
		}
		if first := slices.Index(r.order[window:], `"low"`); first < 0 || first > 2*window {
			t.Errorf("the first of low priority in place %d", first)
		}
	})
}

// What another process left in the store, and died, is let in once somebody says
// so; deadlines pass there, and what was cancelled is not run.
func TestLeftInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for range window {
			b.as(tenant, `0`, Normal)
		}
		late := b.submit("1", time.Now().Add(30*time.Second))
		cancelled := b.submit("2", time.Time{})
		kept := b.submit("3", time.Time{})
		if p := b.find(kept); p.Waits != "normal" || !p.Due.Equal(never) {
			t.Errorf("not left in the store: %+v", p)
		}
		b.cancel(cancelled)
		time.Sleep(31 * time.Second)
		if _, err := NewReconciler(b.store, Config{Timing: timing}).Tenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		fresh := NewWindow(repo.New(b.store.Driver(), repo.Config{}), Config{Timing: timing}, nil)
		fresh.round(t.Context())
		if p := b.find(kept); p.Waits != "normal" {
			t.Errorf("let in without room: %+v", p)
		}
		var r runs
		b.window = nil
		stop := b.start(1, r.predictor(time.Millisecond))
		defer stop()
		time.Sleep(10 * time.Second)
		if p := b.find(kept); p.Status != Queued {
			t.Errorf("it was let in by nobody: %+v", p)
		}
		fresh.Touch(tenant)
		fresh.round(t.Context())
		time.Sleep(time.Second)
		for id, want := range map[ID]Status{kept: Succeeded, late: Expired, cancelled: Cancelled} {
			if p := b.find(id); p.Status != want || p.Waits != "" {
				t.Errorf("%s is %s, waits %q, want %s", id, p.Status, p.Waits, want)
			}
		}
	})
}

// What no worker can run at present takes no room from what can be run.
func TestHeldTakesNoRoom(t *testing.T) {
	b := newBench(t)
	var ids []ID
	for range window + 10 {
		ids = append(ids, b.submit("1", time.Time{}))
	}
	for _, id := range ids[:window] {
		err := b.store.Do(t.Context(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
			_, err := update(ctx, tx, id, func(p *Prediction) error { p.Postpone(unavailable, tx.Now(), timing); return nil })
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if more, err := b.window.Release(t.Context(), tenant); more || err != nil {
		t.Errorf("%t, %v", more, err)
	}
	if p := b.find(ids[window]); p.Waits != "" {
		t.Errorf("it still waits: %+v", p)
	}
}

// A store that cannot count lets in as much.
func TestWindowWithoutCounts(t *testing.T) {
	b := newBench(t)
	for range window + 10 {
		b.submit("1", time.Time{})
	}
	w := NewWindow(repo.New(noCounts{b.store.Driver()}, repo.Config{}), Config{Timing: timing}, nil)
	if more, err := w.Release(t.Context(), tenant); !more || err != nil {
		t.Errorf("%t, %v", more, err)
	}
	for p, err := range Predictions.All(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Prediction]{Where: stands.Eq(announced), Limit: window / 2}) {
		if err != nil {
			t.Fatal(err)
		}
		b.cancel(p.ID)
		if b.backlogOf.Queued(tenant) < window/2 {
			break
		}
	}
	if more, err := w.Release(t.Context(), tenant); more || err != nil {
		t.Errorf("%t, %v", more, err)
	}
	if n, err := Predictions.Count(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), stands.Gt(announced)); n != 0 || err != nil {
		t.Errorf("%d still wait, %v", n, err)
	}
}

// Who keeps the window nearly full, but not full, has no more in the store than fits:
// that goes in, without a quarter being free.
func TestNearlyFullWindowStarvesNobody(t *testing.T) { synctest.Test(t, nearlyFull) }

func nearlyFull(t *testing.T) {
	b := newBench(t)
	for range window + 16 {
		b.submit("1", time.Time{})
	}
	left := 22
	for p, err := range Predictions.All(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), spec.Query[Prediction]{Where: stands.Eq(announced), Limit: left}) {
		if err != nil {
			t.Fatal(err)
		}
		b.cancel(p.ID)
		if left--; left == 0 {
			break
		}
	}
	if _, err := b.window.Release(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if n, err := Predictions.Count(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), stands.Eq(announced)); n != window+16-22 || err != nil {
		t.Errorf("%d of %d are announced, %v", n, window+16-22, err)
	}
}

// A dead letter that is replayed behind a full window waits in the store, as what is
// submitted does.
func TestReplayBehindAFullWindow(t *testing.T) {
	b := newBench(t)
	id := b.submit("1", time.Time{})
	b.change(id, func(p *Prediction, now time.Time) {
		p.Failure = &unavailable
		p.end(Failed, now, timing)
	})
	for range window {
		b.submit("1", time.Time{})
	}
	if _, err := cqrs.Send(b.ctx, b.bus, Revive{ID: id}); err != nil {
		t.Fatal(err)
	}
	if p := b.find(id); p.Status != Queued || p.stands() != string(Normal) {
		t.Errorf("it is %s, and stands %s", p.Status, p.stands())
	}
}

// What is held is tried again a window at a time, and stays held meanwhile.
func TestHeldComeBackAWindowAtATime(t *testing.T) { synctest.Test(t, heldComeBack) }

func heldComeBack(t *testing.T) {
	b := newBench(t)
	const more = 30
	for range window + more {
		b.change(b.submit("1", time.Time{}), func(p *Prediction, now time.Time) { p.Postpone(unavailable, now, timing) })
	}
	time.Sleep(2 * timing.Notice)
	for _, want := range []int{window, more} {
		if n, err := NewReconciler(b.store, Config{Timing: timing}).Tenant(t.Context(), tenant); n != want || err != nil {
			t.Errorf("%d were said again, %v, want %d", n, err, want)
		}
	}
	if n, err := Predictions.Count(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), stands.Eq(held)); n != window+more || err != nil {
		t.Errorf("%d are held, %v", n, err)
	}
}

// change changes a prediction as a worker does.
func (b *bench) change(id ID, f func(p *Prediction, now time.Time)) {
	b.t.Helper()
	err := b.store.Do(b.t.Context(), repo.Scope{Tenant: tenant}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := update(ctx, tx, id, func(p *Prediction) error { f(p, tx.Now()); return nil })
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
