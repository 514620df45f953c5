package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/webhook"
	"sluice/internal/platform/webhook/send"
)

// arrivals notes what each address has accepted, by subject.
type arrivals struct {
	mu   sync.Mutex
	seen map[string][]int64
}

// of answers as judge says, and notes what was accepted.
func (a *arrivals) of(b *bed, judge func(address string) webhook.Result, wait func() time.Duration) {
	a.seen = map[string][]int64{}
	b.sender.answer = func(ctx context.Context, m send.Message) webhook.Result {
		select {
		case <-time.After(wait()):
		case <-ctx.Done():
			return webhook.Result{Class: webhook.Interrupted}
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		r := judge(m.URL)
		if r.Class == webhook.None {
			body := decode(b.t, m.Body)
			key := m.URL + " " + body.Data.ID
			a.seen[key] = append(a.seen[key], body.Data.Sequence)
		}
		return r
	}
}

// all says what was accepted.
func (a *arrivals) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprint(a.seen)
}

// Receivers that fail and are slow, and processes that stop: what an endpoint
// accepts of a subject comes in its order, and without ado: no wait is longer than
// the failures explain.
func TestOrderOfASubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.cfg.Drain = 2 * time.Second
		b.endpoint("acme", "ordered", "thing.*")
		b.endpoint("acme", "free", "thing.*")
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Endpoints.Update(ctx, tx, "free", func(e *webhook.Endpoint) error { e.SetOrder(true); return nil })
			return err
		})
		random := rand.New(rand.NewPCG(3, 4))
		var mu sync.Mutex
		chance := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(n)
		}
		var a arrivals
		a.of(b, func(string) webhook.Result {
			if chance(5) == 0 {
				return webhook.Result{Status: 500, Class: webhook.BadStatus}
			}
			return webhook.Result{Status: 200}
		}, func() time.Duration { return time.Duration(chance(2000)) * time.Millisecond })
		for range 4 {
			stop := b.start(2)
			for n := range 20 {
				b.move("acme", thingID(fmt.Sprint("t", n%4)))
			}
			time.Sleep(3 * time.Second)
			stop()
		}
		stop := b.start(2)
		time.Sleep(40 * time.Hour)
		stop()
		overtaken := 0
		for n := range 4 {
			for _, address := range []string{"ordered", "free"} {
				last := int64(0)
				list := a.seen[fmt.Sprintf("https://%s.example/ t%d", address, n)]
				distinct := map[int64]bool{}
				for _, seq := range list {
					distinct[seq] = true
					switch {
					case seq < last && address == "free":
						overtaken++
					case seq < last:
						t.Errorf("%s: %v", address, list)
					}
					last = seq
				}
				if len(distinct) != 20 {
					t.Errorf("%s of t%d: %v", address, n, list)
				}
			}
		}
		if overtaken == 0 {
			t.Error("nothing was overtaken where it may be: the test tests nothing")
		}
	})
}

// What cannot be delivered holds up what follows it, of its subject only, and lets
// it go at its end; a replay waits for nobody and holds up nobody.
func TestOneThatFailsHoldsUpItsSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.endpoint("acme", "picky", "thing.*")
		var a arrivals
		var mu sync.Mutex
		down := true
		a.of(b, func(string) webhook.Result {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return webhook.Result{Status: 500, Class: webhook.BadStatus}
			}
			return webhook.Result{Status: 200}
		}, func() time.Duration { return time.Millisecond })
		stop := b.start(1)
		defer stop()
		b.move("acme", "t1")
		b.move("acme", "t1")
		time.Sleep(time.Second)
		mu.Lock()
		down = false
		mu.Unlock()
		b.move("acme", "t2")
		time.Sleep(time.Second)
		if got := a.all(); got != "map[https://picky.example/ t2:[1]]" {
			t.Errorf("accepted %s", got)
		}
		time.Sleep(5 * time.Second) // the second attempt of the first, and at once what waits for it
		if got := a.all(); got != "map[https://picky.example/ t1:[1 2] https://picky.example/ t2:[1]]" {
			t.Errorf("accepted %s", got)
		}
		mu.Lock()
		down = true
		mu.Unlock()
		b.do("acme", func(ctx context.Context, tx *repo.Tx) error {
			_, err := webhook.Resend(ctx, tx, b.deliveries("acme", "picky")[0].ID)
			return err
		})
		time.Sleep(time.Second)
		mu.Lock()
		down = false
		mu.Unlock()
		b.move("acme", "t1")
		time.Sleep(time.Second)
		if got := a.all(); !strings.Contains(got, "t1:[1 2 3]") {
			t.Errorf("accepted %s beside a replay", got)
		}
	})
}
