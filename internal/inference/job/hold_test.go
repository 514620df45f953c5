package job

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

// partly is a Predictor that has a model only while it is told to.
type partly struct {
	predict
	has   atomic.Bool
	asked atomic.Int64
}

func (p *partly) Version(_, _ string) (string, error) {
	p.asked.Add(1)
	if !p.has.Load() {
		return "", fault.New(fault.NotFound, "no such model")
	}
	return "1", nil
}

// A prediction goes to a worker that has its model, whoever gets its message.
func TestGoesToWhoHasTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		without := &partly{predict: echo}
		defer b.startAll(without, without, without, echo)()
		var ids []ID
		for range 20 {
			ids = append(ids, b.submit("1", time.Time{}))
		}
		// A message comes to the wrong worker so often in a row by chance, and then
		// its prediction is put off, that one round is not enough for all; in the
		// time that predictions are held, it is.
		time.Sleep(timing.Hold)
		for _, id := range ids {
			if p := b.find(id); p.Status != Succeeded || p.Attempt != 1 {
				t.Errorf("got %+v", p)
			}
		}
		if without.asked.Load() == 0 {
			t.Error("no message went to a worker without the model")
		}
	})
}

// A prediction whose model nobody has waits without being asked for all the time,
// uses up no attempt, runs once somebody has it, and does not wait for ever.
func TestNobodyHasTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := &partly{predict: echo}
		stop := b.start(2, p)
		defer stop()
		id, late := b.submit("1", time.Time{}), b.submit("2", time.Now().Add(2*timing.Notice))
		time.Sleep(5 * timing.Notice)
		if got := b.find(id); got.Status != Queued || got.Attempt != 0 || got.Held.IsZero() {
			t.Errorf("got %+v", got)
		}
		if n := p.asked.Load(); n < 2*circulations || n > 15*circulations {
			t.Errorf("asked for %d times in %s", n, 5*timing.Notice)
		}
		if got := b.find(late); got.Status != Expired {
			t.Errorf("after its deadline: %+v", got)
		}
		p.has.Store(true)
		time.Sleep(timing.Notice + 2*reconcile + time.Second)
		if got := b.find(id); got.Status != Succeeded || got.Attempt != 1 || !got.Held.IsZero() {
			t.Errorf("once somebody has the model: %+v", got)
		}
		p.has.Store(false)
		id = b.submit("3", time.Time{})
		time.Sleep(timing.Hold + 2*timing.Notice)
		if got := b.find(id); !got.Dead() || got.Failure.Code != "model_unavailable" || got.Attempt != 0 {
			t.Errorf("held for too long: %+v", got)
		}
	})
}

// A model that leaves while an attempt runs uses none up.
func TestModelLeavesDuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := &partly{}
		p.has.Store(true)
		p.predict = func(context.Context, []byte) (Answer, error) {
			p.has.Store(false)
			return Answer{}, fault.New(fault.NotFound, "no such model")
		}
		stop := b.start(1, p)
		defer stop()
		id := b.submit("1", time.Time{})
		time.Sleep(time.Second)
		if got := b.find(id); got.Status != Queued || got.used() != 0 || got.Attempt != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

// A dead letter is listed with its reason. Replayed, it has all of its attempts
// again, and what its first life still computes does not count.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		broken := predict(func(context.Context, []byte) (Answer, error) { return Answer{}, fault.New(fault.Unavailable, "broken") })
		wrong := predict(func(context.Context, []byte) (Answer, error) { return Answer{}, fault.New(fault.Invalid, "wrong") })
		stop := b.start(1, broken)
		id := b.submit("1", time.Now().Add(timing.Hold))
		time.Sleep(timing.Hold / 2)
		stop()
		stop = b.start(1, wrong)
		hopeless := b.submit("2", time.Time{})
		time.Sleep(time.Minute)
		stop()
		page, err := cqrs.Ask(b.ctx, b.bus, List{Status: Failed, Dead: true})
		if err != nil || len(page.Items) != 1 || page.Items[0].ID != id || page.Items[0].Failure.Message != "broken" || page.Items[0].Attempt != timing.Attempts {
			t.Fatalf("dead letters: %+v, %v", page, err)
		}
		if _, err := cqrs.Send(b.ctx, b.bus, Revive{ID: hopeless}); fault.CodeOf(err) != "not_a_dead_letter" {
			t.Errorf("what no attempt helps: %v", err)
		}
		p, err := cqrs.Send(b.ctx, b.bus, Revive{ID: id})
		if err != nil || p.Status != Queued || p.used() != 0 || !p.Deadline.IsZero() || p.Replays != 1 {
			t.Fatalf("replayed: %+v, %v", p, err)
		}
		if err := p.Succeed(timing.Attempts, Payload{}, "1", "d", Metrics{}, time.Now(), timing); err == nil {
			t.Error("an attempt of its first life counts")
		}
		if _, err := cqrs.Send(b.ctx, b.bus, Revive{ID: id}); fault.CodeOf(err) != "not_a_dead_letter" {
			t.Errorf("replayed twice: %v", err)
		}
		stop = b.start(1, echo)
		time.Sleep(time.Second)
		stop()
		if p := b.find(id); p.Status != Succeeded || p.Attempt != timing.Attempts+1 || p.Failure != nil {
			t.Errorf("got %+v", p)
		}
		time.Sleep(timing.Keep / 2)
		if p := b.find(id); p.Status != Succeeded {
			t.Errorf("it is kept as of its first end: %+v", p)
		}
	})
}
