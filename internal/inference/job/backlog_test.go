package job

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

// these are the tenants that there are.
func these(names ...string) func(context.Context) iter.Seq2[string, error] {
	return func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, n := range names {
				if !yield(n, nil) {
					return
				}
			}
		}
	}
}

// backlog returns one of a bench, in a process of its own where it is not the first.
func (b *bench) backlog(l Limits) *Backlog {
	b.t.Helper()
	backlog, err := NewBacklog(repo.New(b.store.Driver(), repo.Config{}), these(tenant, "other"), BacklogConfig{Limits: l})
	if err != nil {
		b.t.Fatal(err)
	}
	b.store.Watch(backlog.committed)
	return backlog
}

func (b *bench) cancel(id ID) {
	b.t.Helper()
	if _, err := cqrs.Send(b.ctx, b.bus, Cancel{ID: id}); err != nil {
		b.t.Fatal(err)
	}
}

// refused checks why a tenant's next prediction is refused, and for how long.
func refused(t *testing.T, b *Backlog, tenant, code string, from, to time.Duration) {
	t.Helper()
	err := b.Admit(tenant)
	if code == "" {
		if err != nil {
			t.Errorf("%s is refused: %v", tenant, err)
		}
		return
	}
	f := fault.Of(err)
	if err == nil || f.Kind != fault.Unavailable || f.Code != code || f.RetryAfter < from || f.RetryAfter > to {
		t.Errorf("%s: got %v, retry after %s, want %s after %s to %s", tenant, err, f.RetryAfter, code, from, to)
	}
}

func TestDepthIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := b.backlog(Limits{Queued: 5, TenantQueued: 3})
		rival := access.With(t.Context(), &access.Principal{Tenant: "other", Subject: "key_2", Permissions: access.SetOf(Run)})
		var ids []ID
		for i := range 3 {
			refused(t, l, tenant, "", 0, 0)
			ids = append(ids, b.submit(fmt.Sprint(i), time.Time{}))
		}
		refused(t, l, tenant, "tenant_predictions_full", unknown, 2*unknown)
		refused(t, l, "other", "", 0, 0)
		for range 2 {
			if _, err := cqrs.Send(rival, b.bus, Submit{Model: "m", Input: Payload{Inline: []byte(`1`)}}); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, l, "other", "predictions_full", unknown, 2*unknown)
		refused(t, l, "third", "predictions_full", unknown, 2*unknown)
		b.cancel(ids[0])
		refused(t, l, tenant, "", 0, 0)
		if l.Queued(tenant) != 2 || l.Queued("other") != 2 || l.Queued("third") != 0 {
			t.Errorf("%d and %d wait", l.Queued(tenant), l.Queued("other"))
		}
	})
}

// What other processes have accepted is seen by looking.
func TestOthersAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.submit("1", time.Time{})
		b.submit("2", time.Time{})
		l, err := NewBacklog(b.store, these(tenant, "other"), BacklogConfig{Limits: Limits{TenantQueued: 2}})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, l, tenant, "", 0, 0)
		if err := l.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused(t, l, tenant, "tenant_predictions_full", unknown, 2*unknown)
		b.cancel(id)
		refused(t, l, tenant, "", 0, 0)
	})
}

// Waiting too long is refused to the tenant that waits, and to nobody else.
func TestWaitIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := b.backlog(Limits{Wait: time.Minute})
		id := b.submit("1", time.Time{})
		time.Sleep(time.Minute)
		refused(t, l, tenant, "", 0, 0)
		time.Sleep(10 * time.Second)
		refused(t, l, tenant, "predictions_too_slow", 15*time.Second, 22*time.Second)
		refused(t, l, "other", "", 0, 0)
		b.cancel(id)
		refused(t, l, tenant, "", 0, 0)
	})
}

// Who would wait too long is refused before anybody has, by the rate at which
// predictions leave, and told to come back when a tenth of the time is free.
func TestWaitIsForeseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l := b.backlog(Limits{Wait: time.Minute, TenantQueued: 500})
		var ids []ID
		for i := range 500 {
			ids = append(ids, b.submit(fmt.Sprint(i), time.Time{}))
		}
		for range 4 { // 5 a second leave; at first nobody knows
			if err := l.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if l.of[tenant].rate != 0 && l.of[tenant].rate != 5 {
				t.Errorf("rate %v", l.of[tenant].rate)
			}
			for range 25 {
				b.cancel(ids[0])
				ids = ids[1:]
			}
			time.Sleep(5 * time.Second)
		}
		// 400 wait for 80 s; 270 would wait for 54 s.
		refused(t, l, tenant, "predictions_too_slow", 26*time.Second, 33*time.Second)
		for range 130 {
			b.submit("0", time.Time{})
		}
		// 530 of 500: 80 have to leave until a tenth is free.
		refused(t, l, tenant, "tenant_predictions_full", 16*time.Second, 20*time.Second)
		for len(ids) > 100 {
			b.cancel(ids[0])
			ids = ids[1:]
		}
		refused(t, l, tenant, "", 0, 0)
	})
}

// crowded is a bench where 500 predictions wait, which may for five minutes.
func crowded(t *testing.T) (b *bench, l *Backlog, ids []ID) {
	t.Helper()
	b = newBench(t)
	l = b.backlog(Limits{Wait: 5 * time.Minute})
	for i := range 500 {
		ids = append(ids, b.submit(fmt.Sprint(i), time.Time{}))
	}
	return b, l, ids
}

// Workers that are away for a while have nobody refused: what waits for them is what
// they will do in a moment when they are back, and how long it waits is seen.
func TestOutageRefusesNothingEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, ids := crowded(t)
		look := func() {
			if err := l.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		look()
		for range 10 { // 10 a second leave, and 400 are left
			for range 10 {
				b.cancel(ids[0])
				ids = ids[1:]
			}
			time.Sleep(time.Second)
			look()
		}
		for range 280 {
			time.Sleep(time.Second)
			look()
			refused(t, l, tenant, "", 0, 0)
		}
		time.Sleep(11 * time.Second) // the oldest has waited for 5 minutes
		look()
		refused(t, l, tenant, "predictions_too_slow", time.Second, time.Minute)
		for range 20 { // one in ten seconds leaves: that is slow, and known to be so
			b.cancel(ids[0])
			ids = ids[1:]
			for range 10 {
				time.Sleep(time.Second)
				look()
			}
		}
		if rate := l.of[tenant].rate; rate < 0.1 || rate > 0.15 {
			t.Errorf("%v leave each second", rate)
		}
	})
}

// Workers that come only after a while are as fast as they are then: nobody is refused for
// the time at which there were none.
func TestWorkersThatComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l, ids := crowded(t)
		for second := range 210 {
			for i := 0; second >= 200 && i < 10; i++ {
				b.cancel(ids[0])
				ids = ids[1:]
			}
			if err := l.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			refused(t, l, tenant, "", 0, 0)
			time.Sleep(time.Second)
		}
		if rate := l.of[tenant].rate; rate < 9 || rate > 11 {
			t.Errorf("%v leave each second, 10 do", rate)
		}
	})
}

// noCounts is a store that cannot count.
type noCounts struct{ repo.Driver }

func (noCounts) Summarise(context.Context, *repo.Schema, *repo.SummaryQuery) ([]spec.Group, error) {
	return nil, spec.Unsupported("counts")
}

func TestStoreThatCannotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range window + 5 {
			b.submit(fmt.Sprint(i), time.Time{})
		}
		l, err := NewBacklog(repo.New(noCounts{b.store.Driver()}, repo.Config{}), these(tenant), BacklogConfig{Limits: Limits{Wait: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Look(t.Context()); err != nil || l.Queued(tenant) != window {
			t.Errorf("%d wait, %v", l.Queued(tenant), err)
		}
		time.Sleep(2 * time.Minute)
		refused(t, l, tenant, "predictions_too_slow", time.Minute, 90*time.Second)
	})
}

func TestBacklogMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		metrics := prometheus.NewRegistry()
		l, err := NewBacklog(b.store, these(tenant), BacklogConfig{Limits: Limits{TenantQueued: 1}, Metrics: metrics})
		if err != nil {
			t.Fatal(err)
		}
		b.submit("1", time.Time{})
		time.Sleep(3 * time.Second)
		if l.Admit(tenant) == nil {
			t.Error("not refused")
		}
		want := `# HELP sluice_predictions_oldest_seconds For how long the durable prediction waits that waits longest.
# TYPE sluice_predictions_oldest_seconds gauge
sluice_predictions_oldest_seconds 3
# HELP sluice_predictions_queued Durable predictions that wait to be run, of all tenants, as this process knows.
# TYPE sluice_predictions_queued gauge
sluice_predictions_queued 1
# HELP sluice_predictions_refused_total Durable predictions that were refused because too many wait, by the reason.
# TYPE sluice_predictions_refused_total counter
sluice_predictions_refused_total{reason="predictions_full"} 0
sluice_predictions_refused_total{reason="predictions_too_slow"} 0
sluice_predictions_refused_total{reason="tenant_predictions_full"} 1
`
		if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "sluice_predictions_oldest_seconds", "sluice_predictions_queued", "sluice_predictions_refused_total"); err != nil {
			t.Error(err)
		}
	})
}

// Run sees what others do within the interval, and ends with its context.
func TestBacklogRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		l, err := NewBacklog(repo.New(b.store.Driver(), repo.Config{}), these(tenant), BacklogConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		for i := range busy {
			b.submit(fmt.Sprint(i), time.Time{})
		}
		time.Sleep(lookInterval + 2*time.Second)
		if l.Queued(tenant) != busy {
			t.Errorf("%d wait", l.Queued(tenant))
		}
		b.submit("0", time.Time{})
		time.Sleep(busyInterval + time.Millisecond)
		if l.Queued(tenant) != busy+1 {
			t.Errorf("%d wait", l.Queued(tenant))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Whatever happens to predictions, what was counted by the commits is what the
// store has.
func TestCommitsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		store := repo.New(memrepo.New(memrepo.Config{OneAggregate: true}), repo.Config{Now: func() time.Time { return now }})
		l, err := NewBacklog(store, these(tenant), BacklogConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var ids []ID
		scope := repo.Scope{Tenant: tenant}
		change := func(id ID, f func(*Prediction) error) {
			_ = store.Do(context.Background(), scope, func(ctx context.Context, tx *repo.Tx) error { // a refusal changes nothing
				_, err := Predictions.Update(ctx, tx, id, f)
				return err
			})
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			action := rapid.SampledFrom([]string{"submit", "start", "succeed", "fail", "give back", "cancel", "remind", "time"}).Draw(t, "action")
			if action == "submit" || len(ids) == 0 {
				p := &Prediction{Model: "m", Deadline: now.Add(time.Minute)}
				p.ID = ID(fmt.Sprintf("pred_%d", len(ids)))
				ids = append(ids, p.ID)
				p.Accept(now, timing)
				if err := store.Do(context.Background(), scope, func(ctx context.Context, tx *repo.Tx) error { return Predictions.Add(ctx, tx, p) }); err != nil {
					t.Fatal(err)
				}
				continue
			}
			id := rapid.SampledFrom(ids).Draw(t, "id")
			change(id, func(p *Prediction) (err error) {
				switch action {
				case "start":
					_, err = p.Start("w", "1", now, timing)
				case "succeed":
					err = p.Succeed(p.Attempt, Payload{}, "1", "d", Metrics{}, now, timing)
				case "fail":
					err = p.Fail(p.Attempt, Failure{Code: "x", Retryable: true}, time.Second, now, timing)
				case "give back":
					err = p.GiveBack(p.Attempt, now, timing)
				case "cancel":
					p.Cancel(now, timing)
				case "remind":
					p.Remind(now, timing)
				}
				return err
			})
			if action == "time" {
				now = now.Add(20 * time.Second)
			}
		}
		n, err := Predictions.Count(context.Background(), store.Read(scope), statusIs(Queued))
		if err != nil || l.Queued(tenant) != int(n) || l.all.queued != int(n) {
			t.Fatalf("counted %d and %d, the store has %d, %v", l.Queued(tenant), l.all.queued, n, err)
		}
	})
}
