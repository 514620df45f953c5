package sqliterepo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// hold keeps the writer in a transaction until release is called.
func hold(t *testing.T, d *stored) (release func()) {
	t.Helper()
	holding, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- d.writer.run(context.Background(), func(*conn) error { close(holding); <-end; return nil })
	}()
	<-holding
	return sync.OnceFunc(func() {
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// queued waits until n jobs wait.
func queued(t *testing.T, d *stored, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(d.writer.queue) != n; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs wait, expected %d", len(d.writer.queue), n)
		}
	}
}

// shared returns how many commits there were, and how many changesets in them.
func shared(t *testing.T, g prometheus.Gatherer) (commits, changesets float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_sqlite_commit_changesets" {
			h := f.GetMetric()[0].GetHistogram()
			return float64(h.GetSampleCount()), h.GetSampleSum()
		}
	}
	t.Fatal("nothing is measured")
	return 0, 0
}

// Changesets that share a commit have outcomes of their own: one is refused,
// one fails in the midst of its writes, the others happen.
func TestOutcomesOfTheirOwn(t *testing.T) {
	for _, broken := range []bool{false, true} {
		registry := prometheus.NewRegistry()
		d, store := newStore(t, storePath(t), Config{Metrics: registry})
		if err := add(t.Context(), store, "there"); err != nil {
			t.Fatal(err)
		}
		commits, sum := shared(t, registry)
		release := hold(t, d)
		defer release()
		var all sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			all.Go(func() {
				switch {
				case i == 3:
					errs[i] = add(t.Context(), store, "there")
				case i == 7 && broken:
					errs[i] = d.writer.run(t.Context(), func(c *conn) error {
						if err := c.Exec(newStatement(insertMark, "c", "m", int64(1))); err != nil {
							return err
						}
						return c.Exec(newStatement("INSERT INTO inbox VALUES (NULL, NULL, NULL)"))
					})
				default:
					errs[i] = add(t.Context(), store, fmt.Sprint("item_", i))
				}
			})
		}
		queued(t, d, len(errs))
		release()
		all.Wait()
		for i, err := range errs {
			switch {
			case i == 3:
				if !errors.Is(err, repo.ErrExists) {
					t.Errorf("what is there already: %v", err)
				}
			case i == 7 && broken:
				if fault.CodeOf(err) != "store_failed" {
					t.Errorf("what failed: %v", err)
				}
			case err != nil:
				t.Errorf("number %d: %v", i, err)
			default:
				if ok, err := items.Exists(t.Context(), store.Read(who), itemID(fmt.Sprint("item_", i))); !ok || err != nil {
					t.Errorf("number %d is not there: %v", i, err)
				}
			}
		}
		if err := d.Commit(t.Context(), &repo.Changeset{Marks: []repo.Mark{{Consumer: "c", Message: "m"}}}); err != nil {
			t.Errorf("what failed has left something: %v", err)
		}
		// The held transaction, all together, and the mark.
		if c, s := shared(t, registry); c-commits != 3 || s-sum != float64(len(errs)+2) {
			t.Errorf("%v changesets in %v commits", s-sum, c-commits)
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{Queue: 2})
	release := hold(t, d)
	defer release()
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			if err := add(t.Context(), store, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, d, 2)
	if err := add(t.Context(), store, "more"); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "store_busy" || fault.Of(err).RetryAfter == 0 {
		t.Errorf("one too many: %v", err)
	}
	release()
	all.Wait()
	if err := add(t.Context(), store, "more"); err != nil {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{})
	release := hold(t, d)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- add(ctx, store, "waiting") }()
	queued(t, d, 1)
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("what waited: %v", err)
	}
	release()
	// What has begun is finished.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err := d.writer.run(ctx, func(c *conn) error {
		cancel()
		return c.Exec(newStatement(insertMark, "c", "m", int64(1)))
	})
	if err != nil {
		t.Errorf("what had begun: %v", err)
	}
	if ok, err := items.Exists(t.Context(), store.Read(who), "waiting"); ok || err != nil {
		t.Errorf("what was cancelled is there: %v", err)
	}
}

// Close commits what is queued.
func TestCloseFinishes(t *testing.T) {
	path := storePath(t)
	d, store := newStore(t, path, Config{})
	release := hold(t, d)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			if err := add(t.Context(), store, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	queued(t, d, 3)
	all.Go(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	release()
	all.Wait()
	_, store = newStore(t, path, Config{})
	for i := range 3 {
		if ok, err := items.Exists(t.Context(), store.Read(who), itemID(fmt.Sprint(i))); !ok || err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestAnotherProcessHoldsTheLock(t *testing.T) {
	path := storePath(t)
	_, store := newStore(t, path, Config{Patience: 20 * time.Millisecond})
	other := openPath(t, path, Config{})
	release := hold(t, other)
	defer release()
	if err := add(t.Context(), store, "a"); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "store_busy" {
		t.Errorf("while the lock is held: %v", err)
	}
	release()
	if err := add(t.Context(), store, "a"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A full store refuses changes, keeps what it has, and goes on once there is room.
func TestFull(t *testing.T) {
	d, store := newStore(t, storePath(t), Config{MaxSize: 90 * sqlite.PageSize})
	var (
		mu   sync.Mutex
		kept []itemID
		all  sync.WaitGroup
	)
	for w := range 8 {
		all.Go(func() {
			for n := range 10_000 {
				id := fmt.Sprintf("item_%d_%05d", w, n)
				if err := add(t.Context(), store, id); err != nil {
					if !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "storage_full" {
						t.Errorf("a full store: %v", err)
					}
					return
				}
				mu.Lock()
				kept = append(kept, itemID(id))
				mu.Unlock()
			}
			t.Error("the store never became full")
		})
	}
	all.Wait()
	for _, id := range kept {
		if ok, err := items.Exists(t.Context(), store.Read(who), id); !ok || err != nil {
			t.Fatalf("%s was acknowledged and is lost: %v", id, err)
		}
	}
	pending, err := d.Pending(t.Context(), 0, 10_000)
	if err != nil || len(pending) != len(kept) || len(kept) < 50 {
		t.Fatalf("%d messages of %d items, %v", len(pending), len(kept), err)
	}
	for len(pending) > 0 { // a little at a time: marking needs room, too
		n := min(len(pending), 10)
		if err := d.Published(t.Context(), 0, pending[:n], store.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Trim(t.Context(), 0, store.Now().Add(time.Second), n); err != nil {
			t.Fatal(err)
		}
		pending = pending[n:]
	}
	if err := add(t.Context(), store, "later"); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

// What nobody needs soon waits for company, for a while, and holds nobody up.
func TestRiders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writer{batch: 8, queue: make(chan *job, 8)}
		rider, other := func() *job { return &job{rides: true} }, new(job)
		began := time.Now()
		if batch := w.company(nil, rider()); len(batch) != 1 || time.Since(began) != rideWait {
			t.Errorf("alone: %d jobs after %s", len(batch), time.Since(began))
		}
		began = time.Now()
		w.queue <- rider()
		w.queue <- other
		w.queue <- rider()
		if batch := w.company(nil, rider()); len(batch) != 3 || batch[2] != other || time.Since(began) != 0 {
			t.Errorf("with another: %d jobs after %s", len(batch), time.Since(began))
		}
		if batch := w.company(nil, new(job)); len(batch) != 1 || time.Since(began) != 0 {
			t.Errorf("one that does not ride: %d jobs after %s", len(batch), time.Since(began))
		}
		close(w.queue) // with a rider in it: it is done, and nobody waits
		if batch := w.company(nil, rider()); len(batch) != 2 || time.Since(began) != 0 {
			t.Errorf("at the end: %d jobs after %s", len(batch), time.Since(began))
		}
	})
}
