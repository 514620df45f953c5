package batcher

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

// Whatever has gone before: a task of which the refusal is foreseen is refused.
func TestForeseenIsRefused(t *testing.T) {
	var foreseen, refused int
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{
			MaxRows: rapid.SampledFrom([]int{1, 2, 8}).Draw(rt, "rows"), SLO: 40 * millisecond,
			Executors: rapid.IntRange(1, 2).Draw(rt, "executors"), MaxQueue: rapid.SampledFrom([]int{3, 4096}).Draw(rt, "queue"),
		}
		takes := linear(time.Duration(rapid.IntRange(1, 8).Draw(rt, "base"))*millisecond, time.Duration(rapid.IntRange(0, 3).Draw(rt, "row"))*millisecond)
		tenants := []string{"", "a", "b"}[:rapid.IntRange(1, 3).Draw(rt, "tenants")]
		type step struct {
			pause, since time.Duration
			task         *Task[string]
		}
		steps := make([]step, rapid.IntRange(20, 60).Draw(rt, "steps"))
		for i := range steps {
			ms := func(least, most int, of string) time.Duration {
				return time.Duration(rapid.IntRange(least, most).Draw(rt, of)) * millisecond
			}
			steps[i].task = &Task[string]{Rows: rapid.IntRange(1, cfg.MaxRows).Draw(rt, "of"), Bucket: uint64(rapid.IntRange(0, 2).Draw(rt, "bucket")),
				Tenant: rapid.SampledFrom(tenants).Draw(rt, "tenant")}
			if steps[i].since = ms(0, 30, "since"); rapid.IntRange(0, 3).Draw(rt, "pauses") == 0 {
				steps[i].pause = ms(1, 20, "pause")
			}
		}
		inBubble(t, cfg, takes, func(b *bench) {
			var (
				replies   []*reply
				forecasts []error
			)
			for _, s := range steps {
				time.Sleep(s.pause)
				synctest.Wait()
				s.task.Since = time.Now().Add(-s.since)
				before := b.clock
				b.tenants.get(s.task.Tenant).edge = 0 // the best that may be is the law here; TestFewAreReadInVain has the rest
				forecast := b.Foresee(s.task.Tenant, s.task.Since)
				b.gap, b.lastArrival, b.crowd = before.gap, before.lastArrival, before.crowd // it was no other arrival
				replies = append(replies, b.send(b.t.Context(), s.task))
				forecasts = append(forecasts, forecast)
			}
			b.wg.Wait()
			for i, r := range replies {
				atOnce := r.err != nil && r.took == 0
				if atOnce {
					refused++
				}
				forecast := forecasts[i]
				if forecast == nil {
					continue
				}
				foreseen++
				if codes := []string{CodeOverloaded, CodeQueueFull}; !slices.Contains(codes, fault.CodeOf(forecast)) || fault.Of(forecast).RetryAfter <= 0 {
					rt.Errorf("foreseen: %v", forecast)
				}
				if !atOnce {
					rt.Errorf("%v was foreseen, and the task ended with %v after %s", forecast, r.err, r.took)
				}
			}
		})
	})
	if foreseen == 0 || refused < foreseen {
		t.Errorf("%d were foreseen and %d refused: the test shows nothing", foreseen, refused)
	}
	t.Logf("%d of %d refusals were foreseen", foreseen, refused)
}

// Who asks less than others is let in by fairness, and what has no time limit of the
// batcher's waits: neither is foreseen.
func TestNotForeseen(t *testing.T) {
	full := func(b *bench) {
		for range 12 {
			b.send(b.t.Context(), &Task[string]{Rows: 1, Tenant: "noisy"})
		}
	}
	inBubble(t, Config{MaxRows: 1, SLO: 40 * millisecond}, linear(10*millisecond, 0), func(b *bench) {
		full(b)
		if err := b.Foresee("noisy", time.Now()); fault.CodeOf(err) != CodeOverloaded {
			t.Errorf("its own: %v", err)
		}
		if err := b.Foresee("quiet", time.Now()); err != nil {
			t.Errorf("another's: %v", err)
		}
	})
	inBubble(t, Config{MaxRows: 1, SLO: 40 * millisecond, Explicit: &Explicit{PriorityLevels: 3}}, linear(10*millisecond, 0), func(b *bench) {
		full(b)
		if err := b.Foresee("noisy", time.Now()); err != nil {
			t.Errorf("with priorities: %v", err)
		}
	})
}

// Time that has passed before Submit counts.
func TestTheCallersTimeCounts(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 40 * millisecond}, linear(10*millisecond, 0), func(b *bench) {
		b.online("a", "b")
		late := b.send(b.t.Context(), &Task[string]{Rows: 1, Since: time.Now().Add(-25 * millisecond)})
		wantCode(t, late.err, CodeOverloaded)
		r := b.send(b.t.Context(), &Task[string]{Rows: 1, Since: time.Now().Add(-5 * millisecond)})
		if b.wg.Wait(); r.err != nil {
			t.Error(r.err)
		}
		wantCode(t, b.send(b.t.Context(), &Task[string]{Rows: 1, Since: time.Now().Add(-time.Second)}).err, CodeTimeout)
	})
}

// At three times what there is, little is read only to be refused, and as much is done as if all were read.
func TestFewAreReadInVain(t *testing.T) {
	for name, sizes := range map[string][]int{"one size": {1}, "two sizes": {1, 4}} {
		t.Run(name, func(t *testing.T) {
			all, asked := flood{sizes: sizes}.play(t), flood{sizes: sizes, ask: true}.play(t)
			t.Logf("all read: %+v; asked before: %+v", all, asked)
			if asked.rows < all.rows*98/100 {
				t.Errorf("%d rows were done, and %d where nothing was foreseen", asked.rows, all.rows)
			}
			if asked.late > 0 {
				t.Errorf("%d were answered late", asked.late)
			}
			if asked.vain > asked.accepted/2 || all.vain < all.accepted {
				t.Errorf("%d were read in vain, and %d where nothing was foreseen", asked.vain, all.vain)
			}
			for i := range sizes {
				if asked.of[i] < all.of[i]*8/10 {
					t.Errorf("%d of %d rows were accepted, and %d where nothing was foreseen", asked.of[i], sizes[i], all.of[i])
				}
			}
		})
	}
}

// flood is traffic of three times what there is.
type flood struct {
	sizes []int // of requests, each as often
	ask   bool  // what is foreseen to be refused is not sent
}

// flooded is what came of it.
type flooded struct {
	rows, accepted, vain, late int64
	of                         [2]int64 // accepted, by size
}

func (f flood) play(t *testing.T) (out flooded) {
	t.Helper()
	const slo, span = 200 * millisecond, 20 * time.Second
	takes := linear(8*millisecond, millisecond/2)
	inBubble(t, Config{MaxRows: 16, SLO: slo}, takes, func(b *bench) {
		rng, mean := rand.New(rand.NewPCG(1, 1)), 0
		for _, n := range f.sizes {
			mean += n
		}
		gap := float64(takes(16)) / 16 * float64(mean) / float64(len(f.sizes)) / 3
		for began := time.Now(); time.Since(began) < span; {
			time.Sleep(time.Duration(rng.ExpFloat64() * gap))
			kind := rng.IntN(len(f.sizes))
			if f.ask && b.Foresee("", time.Now()) != nil {
				continue
			}
			sent := time.Now()
			b.wg.Go(func() {
				_, err := b.Submit(b.t.Context(), &Task[string]{Rows: f.sizes[kind]})
				switch {
				case err != nil:
					atomic.AddInt64(&out.vain, 1)
				case time.Since(sent) > slo:
					atomic.AddInt64(&out.late, 1)
				default:
					atomic.AddInt64(&out.accepted, 1)
					atomic.AddInt64(&out.of[kind], 1)
					atomic.AddInt64(&out.rows, int64(f.sizes[kind]))
				}
			})
		}
		b.wg.Wait()
	})
	return out
}
