package batcher

import (
	"math/rand/v2"
	"slices"
	"sync"
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

// At three times what there is, little is read only to be refused, and about as much is done as if all were read.
func TestFewAreReadInVain(t *testing.T) {
	for name, tt := range map[string]struct {
		sizes []int
		least float64 // of the rows that are done if all are read
	}{
		"one size": {[]int{1}, .99}, "two sizes": {[]int{1, 4}, .98},
		"few large ones": {append(slices.Repeat([]int{1}, 19), 16), .93}, // which do not fit where small ones do
	} {
		t.Run(name, func(t *testing.T) {
			all, asked := flood{sizes: tt.sizes}.play(t), flood{sizes: tt.sizes, ask: true}.play(t)
			t.Logf("all read: %+v; asked before: %+v", all, asked)
			if float64(asked.rows) < tt.least*float64(all.rows) {
				t.Errorf("%d rows were done, and %d where nothing was foreseen", asked.rows, all.rows)
			}
			if asked.late > 0 {
				t.Errorf("%d were answered late", asked.late)
			}
			if asked.vain > asked.accepted/4 || asked.vain > all.vain/4 {
				t.Errorf("%d were read in vain, and %d where nothing was foreseen", asked.vain, all.vain)
			}
			for size, n := range all.of {
				if asked.of[size] < n*7/10 {
					t.Errorf("%d of %d rows were accepted, and %d where nothing was foreseen", asked.of[size], size, n)
				}
			}
		})
	}
}

// Who asks before is not kept out by who does not, as other transports do not ask.
func TestWhoAsksIsNotKeptOut(t *testing.T) {
	out := flood{sizes: []int{1, 1}, ask: true, half: true}.play(t)
	t.Logf("%+v", out)
	if out.asked < out.accepted/3 {
		t.Errorf("of %d accepted %d were of those who ask before, half of all", out.accepted, out.asked)
	}
}

// What was refused once, behind little, is not refused for ever.
func TestOnceRefusedIsNotForEver(t *testing.T) {
	inBubble(t, Config{MaxRows: 64, SLO: 400 * millisecond, Solo: true}, linear(0, 8*millisecond), func(b *bench) {
		b.send(b.t.Context(), &Task[string]{Rows: 1})
		wantCode(t, b.send(b.t.Context(), &Task[string]{Rows: 64}).err, CodeOverloaded)
		b.wg.Wait()
		for range 5 {
			time.Sleep(100 * millisecond)
			for i := range 20 { // 160 ms of work
				if err := b.Foresee("", time.Now()); err != nil {
					t.Fatalf("the task %d of a burst that fits: %v", i, err)
				}
				b.send(b.t.Context(), &Task[string]{Rows: 1})
			}
			b.wg.Wait()
		}
	})
}

// flood is traffic of three times what there is.
type flood struct {
	sizes []int // of requests, each as often
	ask   bool  // what is foreseen to be refused is not sent
	half  bool  // of the requests, every other, asks
}

// flooded is what came of it.
type flooded struct {
	rows, accepted, vain, late, asked int
	of                                map[int]int // accepted, by size
}

func (f flood) play(t *testing.T) (out flooded) {
	t.Helper()
	const slo, span = 200 * millisecond, 20 * time.Second
	takes := linear(8*millisecond, millisecond/2)
	inBubble(t, Config{MaxRows: 16, SLO: slo}, takes, func(b *bench) {
		var mu sync.Mutex
		out.of = map[int]int{}
		rng, mean := rand.New(rand.NewPCG(1, 1)), 0
		for _, n := range f.sizes {
			mean += n
		}
		gap := float64(takes(16)) / 16 * float64(mean) / float64(len(f.sizes)) / 3
		for began := time.Now(); time.Since(began) < span; {
			time.Sleep(time.Duration(rng.ExpFloat64() * gap))
			rows := f.sizes[rng.IntN(len(f.sizes))]
			asks := f.ask && (!f.half || rng.IntN(2) == 0)
			if asks && b.Foresee("", time.Now()) != nil {
				continue
			}
			sent := time.Now()
			b.wg.Go(func() {
				_, err := b.Submit(b.t.Context(), &Task[string]{Rows: rows})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					out.vain++
					return
				case time.Since(sent) > slo:
					out.late++
				}
				out.accepted++
				out.of[rows]++
				out.rows += rows
				if asks {
					out.asked++
				}
			})
		}
		b.wg.Wait()
	})
	return out
}
