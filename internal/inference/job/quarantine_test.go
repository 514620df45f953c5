package job

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// The quarantine begins with the deaths that the rule counts, whatever the order
// in which they are noticed, and ends only when somebody lifts it.
func TestQuarantineRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most, apart = 3, 30 * time.Second
		began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		q := &Quarantine{Model: "m", Version: "1"}
		var counted []Death
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			was := q.Active
			switch rapid.SampledFrom([]string{"death", "death", "death", "success", "lift"}).Draw(t, "action") {
			case "death":
				d := Death{Prediction: ID(fmt.Sprint("pred_", rapid.IntRange(0, 5).Draw(t, "prediction"))), At: began.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "at")) * 10 * time.Second)}
				q.Count(d, most, apart, began)
				alike := slices.ContainsFunc(counted, func(o Death) bool { return o.Prediction == d.Prediction || o.At.Sub(d.At).Abs() < apart })
				if !was && !alike {
					counted = append(counted, d)
				}
			case "success":
				q.Survive()
				if !was {
					counted = nil
				}
			default:
				q.Lift()
				counted = nil
			}
			if len(q.Deaths) != len(counted) || q.Active != (len(counted) >= most) || q.Active == q.Since.IsZero() {
				t.Fatalf("%+v, counted %+v", q, counted)
			}
		}
	})
}

// die has a worker die while it runs a prediction.
func (b *bench) die(id ID) {
	b.t.Helper()
	w := NewWorker(b.store, echo, inline{}, b.ward, Config{Timing: timing}, nil)
	if _, begun, err := w.start(b.t.Context(), repo.Scope{Tenant: tenant}, id, "1", true); !begun || err != nil {
		b.t.Fatalf("%s: %t, %v", id, begun, err)
	}
}

// events has the types of the events of quarantines, as they are committed.
func (b *bench) events() func() []string {
	var mu sync.Mutex
	var types []string
	b.store.Watch(func(c *repo.Changeset) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range c.Messages {
			if m.Kind == Quarantines.Name {
				types = append(types, m.Type)
			}
		}
	})
	return func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(types) }
}

// kill has workers die of so many predictions, one after the other, and returns
// the predictions when the last death is overdue.
func (b *bench) kill(n int) (ids []ID) {
	for range n {
		id := b.submit(`"killer"`, time.Time{})
		b.die(id)
		ids = append(ids, id)
		time.Sleep(timing.Lease + time.Second)
	}
	return ids
}

// A version that workers die of is not run any more, by those in this process and
// in others, until an operator releases it; other versions are.
func TestQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		events := b.events()
		elsewhere, err := NewWard(repo.New(b.store.Driver(), repo.Config{}), Config{Timing: timing}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go elsewhere.Run(ctx)

		killers := b.kill(3)
		var released atomic.Bool
		p := predict(func(ctx context.Context, input []byte) (Answer, error) {
			if string(input) == `"killer"` && !released.Load() {
				<-ctx.Done()
				return Answer{}, ctx.Err()
			}
			return Answer{Output: Message{Body: input}, Version: "1"}, nil
		})
		stop := b.start(3, p)
		// The deaths are noticed by whoever takes over: the third finds the version in
		// quarantine, and so do those that come after.
		time.Sleep(timing.Notice + 2*reconcile)
		running := 0
		for _, id := range killers {
			if b.find(id).Status == Running {
				running++
			}
		}
		if running == len(killers) {
			t.Error("all are run again")
		}
		stop()
		stop = b.start(3, p)
		defer func() { stop() }()
		waiting := b.submit(`"waiting"`, time.Time{})
		time.Sleep(time.Minute)
		if err := b.ward.Admit("m", "1"); !fault.Is(err, fault.Unavailable) || fault.CodeOf(err) != "model_quarantined" || fault.Of(err).RetryAfter == 0 {
			t.Errorf("refused with %v", err)
		}
		if elsewhere.Admit("m", "1") == nil || elsewhere.Admit("m", "2") != nil {
			t.Error("another process does not know")
		}
		for _, id := range append(killers, waiting) {
			if p := b.find(id); p.Status != Queued || p.Held.IsZero() || id == waiting && p.Attempt != 0 {
				t.Errorf("not held: %+v", p)
			}
		}
		if got := events(); !slices.Equal(got, []string{"model.quarantined"}) {
			t.Errorf("events %q", got)
		}
		other, err := cqrs.Send(b.ctx, b.bus, Submit{Model: "m", Version: "2", Input: Payload{Inline: []byte(`"other"`)}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if p := b.find(other.ID); p.Status != Succeeded {
			t.Errorf("another version is not run: %+v", p)
		}

		released.Store(true)
		q, err := cqrs.Send(b.ctx, b.bus, Free{ID: quarantineID("m", "1")})
		if err != nil || q.Active || len(q.Deaths) != 0 {
			t.Fatalf("%+v, %v", q, err)
		}
		time.Sleep(timing.Notice + 2*reconcile)
		for _, id := range append(killers, waiting) {
			if p := b.find(id); p.Status != Succeeded {
				t.Errorf("released: %+v", p)
			}
		}
		if elsewhere.Admit("m", "1") != nil || !slices.Equal(events(), []string{"model.quarantined", "model.released"}) {
			t.Errorf("released: %v, events %q", elsewhere.Admit("m", "1"), events())
		}
		if _, err := cqrs.Send(b.ctx, b.bus, Free{ID: "qtn_none"}); err == nil {
			t.Error("what is not there was released")
		}
	})
}

// What a quarantine holds for too long becomes a dead letter that says so.
func TestQuarantineForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.kill(3)
		b.ward.died(t.Context(), "m", "1", Death{Prediction: "pred_a", At: time.Now()})
		b.ward.died(t.Context(), "m", "1", Death{Prediction: "pred_b", At: time.Now().Add(time.Hour)})
		b.ward.died(t.Context(), "m", "1", Death{Prediction: "pred_c", At: time.Now().Add(2 * time.Hour)})
		stop := b.start(1, echo)
		defer stop()
		id := b.submit("1", time.Time{})
		time.Sleep(timing.Hold + 2*timing.Notice)
		if p := b.find(id); !p.Dead() || p.Failure.Code != "model_quarantined" || p.Attempt != 0 {
			t.Errorf("got %+v", p)
		}
	})
}

// One poisonous prediction ends as a dead letter, and no version in quarantine.
func TestPoisonIsNoFaultOfTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		id := b.submit(`"poison"`, time.Time{})
		for range timing.Attempts {
			b.die(id)
			time.Sleep(timing.Lease + time.Second)
		}
		stop := b.start(2, echo)
		defer stop()
		time.Sleep(timing.Notice + 2*reconcile)
		if p := b.find(id); !p.Dead() || p.Failure.Code != "attempts_exhausted" || p.Attempt != timing.Attempts {
			t.Errorf("got %+v", p)
		}
		if b.ward.Admit("m", "1") != nil {
			t.Error("the version is in quarantine")
		}
	})
}

// Deaths at once, as of a loss of power, and deaths with a success in between are
// not the model's fault.
func TestDeathsThatDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for range 6 {
			b.die(b.submit("1", time.Time{}))
		}
		time.Sleep(timing.Lease + time.Second)
		stop := b.start(2, echo)
		time.Sleep(timing.Notice + 2*reconcile)
		stop()
		if q := b.ward.is("m", "1"); q.Active || len(q.Deaths) != 0 {
			t.Errorf("after a loss of power: %+v", q)
		}
		for range 4 {
			b.kill(2)
			stop := b.start(1, echo)
			time.Sleep(timing.Notice + 2*reconcile)
			stop()
			if q := b.ward.is("m", "1"); q.Active || len(q.Deaths) != 0 {
				t.Errorf("with successes in between: %+v", q)
			}
		}
	})
}

// What this process has committed is newer than what a look has read before.
func TestRefreshUndoesNothingNewer(t *testing.T) {
	b := newBench(t)
	q := Quarantine{Model: "m", Version: "1", Deaths: []Death{{Prediction: "pred_1"}}}
	q.ID = quarantineID("m", "1")
	if err := b.store.Do(t.Context(), repo.Scope{}, func(ctx context.Context, tx *repo.Tx) error { return Quarantines.Add(ctx, tx, &q) }); err != nil {
		t.Fatal(err)
	}
	q.Active = true
	doc, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	b.ward.committed(&repo.Changeset{Puts: []repo.Put{{Record: repo.Record{Key: repo.Key{Kind: Quarantines.Name}, Version: q.Root.Version + 1, Doc: doc}}}})
	if err := b.ward.Refresh(t.Context()); err != nil || b.ward.Admit("m", "1") == nil {
		t.Errorf("%v, and the version is let in", err)
	}
}
