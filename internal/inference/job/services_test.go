//go:build services

package job

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/scyllarepo"
	"sluice/internal/platform/spec"
)

// newCQLBench returns a bench whose store is a keyspace of its own in the cluster.
func newCQLBench(t *testing.T) *bench {
	t.Helper()
	d, err := scyllarepo.Open(t.Context(), cqltest.Fresh(t), scyllarepo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Migrate(t.Context(), []*repo.Schema{Predictions.Schema(), Quarantines.Schema(), usage.Totals.Schema(), repo.LeaseSchema()}); err != nil {
		t.Fatal(err)
	}
	return benchOn(t, d)
}

// eventually waits until something holds that the store shows within moments.
func eventually(t *testing.T, what string, holds func() (bool, error)) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		ok, err := holds()
		if ok && err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within two minutes, %v", what, err)
		}
	}
}

func (b *bench) submitAll(n int, p Priority) {
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := g; i < n; i += 16 {
				b.as(tenant, fmt.Sprintf("%q", p), p)
			}
		})
	}
	all.Wait()
}

// On CQL, which changes one aggregate at a time, cannot count, and shows in a query
// what was committed some moments ago: what is beyond the window waits in the store,
// the urgent is let in first, all of it is run, and the limits refuse what is more.
func TestWindowAndLimitsOnCQL(t *testing.T) {
	b := newCQLBench(t)
	const beyond = 100
	b.submitAll(window, Normal)
	reading := b.store.Read(repo.Scope{Tenant: tenant})
	eventually(t, "the window is seen to be full", func() (bool, error) {
		if err := b.backlogOf.Look(t.Context()); err != nil {
			return false, err
		}
		return b.backlogOf.Queued(tenant) >= window, nil
	})
	b.submitAll(beyond, Low)
	b.submitAll(beyond, High)
	where := func(at string) int {
		page, err := Predictions.Find(t.Context(), reading, spec.Query[Prediction]{Where: stands.Eq(at), Limit: 2 * window})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Items)
	}
	eventually(t, "what is beyond the window waits in the store", func() (bool, error) {
		return where(string(Low)) == beyond && where(string(High)) == beyond, nil
	})
	if more, err := b.window.Release(t.Context(), tenant); !more || err != nil || where(string(High)) != beyond {
		t.Errorf("without room: %t, %v, %d of high priority still wait", more, err, where(string(High)))
	}
	b.limit(t)

	var r runs
	stop := b.start(2, r.predictor(5*time.Millisecond))
	defer stop()
	began := time.Now()
	eventually(t, "all are run", func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.order) >= window+2*beyond, nil
	})
	took := time.Since(began)
	t.Logf("%d predictions were let in and run in %s", window+2*beyond, took.Round(time.Millisecond))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) != window+2*beyond {
		t.Errorf("%d runs of %d predictions", len(r.order), window+2*beyond)
	}
	places := map[string]int{}
	for i, text := range r.order {
		places[text] += i
	}
	if high, low := places[`"high"`]/beyond, places[`"low"`]/beyond; high >= low {
		t.Errorf("mean places: high %d, low %d", high, low)
	}
}

// limit looks at what the limits refuse of what waits now.
func (b *bench) limit(t *testing.T) {
	t.Helper()
	for code, l := range map[string]Limits{
		codeTenantFull: {TenantQueued: window},
		codeFull:       {Queued: window},
		codeSlow:       {Wait: time.Nanosecond},
	} {
		fresh, err := NewBacklog(repo.New(b.store.Driver(), repo.Config{}), these(tenant), BacklogConfig{Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.Admit(tenant); err != nil {
			t.Errorf("before it has looked: %v", err)
		}
		if err := fresh.Look(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Admit(tenant); fault.CodeOf(err) != code || fault.Of(err).RetryAfter <= 0 {
			t.Errorf("%s: %v", code, err)
		}
		if err := fresh.Admit("other"); code != codeFull && err != nil {
			t.Errorf("%s: another tenant is refused: %v", code, err)
		}
	}
}
