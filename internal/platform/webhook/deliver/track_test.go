package deliver

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/webhook"
)

// What happens while nobody matches is matched by who comes next, from where the
// last one was.
func TestMatchingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		for round := range uint64(3) {
			stop := b.start(2)
			b.move("acme", "t")
			time.Sleep(time.Second)
			stop()
			bounds, err := b.queue.Bounds(t.Context(), stream)
			if err != nil {
				t.Fatal(err)
			}
			at, err := webhook.Matched(t.Context(), b.store)
			if err != nil || at.Next != bounds.Last+1 || at.Epoch != "1" || bounds.Last < round+1 {
				t.Errorf("round %d: the position is %+v of %+v, %v", round, at, bounds, err)
			}
		}
		if n := len(b.deliveries("acme", "e")); n != 3 {
			t.Errorf("%d deliveries of 3 events", n)
		}
	})
}

// A burst that comes while nobody matches is more than a wave. What an endpoint
// wants of it is told, in the order of each subject.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "e", "thing.*")
		events := 0
		for n := range wave + 100 {
			b.move("rival", "a")
			if n%20 == 0 {
				b.move("acme", []thingID{"a", "b", "c"}[events%3])
				events++
			}
		}
		stop := b.start(1)
		time.Sleep(10 * time.Minute)
		stop()
		seen := map[string]int64{}
		for _, d := range b.deliveries("acme", "e") {
			if seen[d.Subject]++; d.Sequence != seen[d.Subject] || d.Status != webhook.Delivered {
				t.Fatalf("%s: %d after %d, %s", d.Subject, d.Sequence, seen[d.Subject]-1, d.Status)
			}
		}
		if total := seen["a"] + seen["b"] + seen["c"]; total != int64(events) {
			t.Errorf("%d of %d were told", total, events)
		}
	})
}

// Who is late does not move the position back, but for another stream.
func TestPositionGoesForward(t *testing.T) {
	b := newBed(t)
	for _, step := range []struct {
		epoch      string
		next, want uint64
	}{{"1", 5, 5}, {"1", 3, 5}, {"1", 7, 7}, {"2", 1, 1}} {
		if err := (webhook.Position{Epoch: step.epoch, Next: step.next}).Keep(t.Context(), b.store); err != nil {
			t.Fatal(err)
		}
		if at, err := webhook.Matched(t.Context(), b.store); err != nil || at.Next != step.want || at.Epoch != step.epoch {
			t.Errorf("after %+v: %+v, %v", step, at, err)
		}
	}
}
