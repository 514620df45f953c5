package batcher

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/fault"
)

const millisecond = time.Millisecond

// bench is a batcher in a bubble of simulated time, and what it ran.
type bench struct {
	*Batcher[string]
	t     *testing.T
	takes func(rows int) time.Duration
	mu    sync.Mutex
	runs  []string // the values of each run's tasks, joined
	wg    sync.WaitGroup
}

// linear returns a run time of base plus n times row.
func linear(base, row time.Duration) func(int) time.Duration {
	return func(n int) time.Duration { return base + time.Duration(n)*row }
}

// inBubble runs f with a batcher whose cost table is seeded with takes.
func inBubble(t *testing.T, cfg Config, takes func(int) time.Duration, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Executors == 0 {
			cfg.Executors = 1
		}
		if cfg.Cost == nil {
			cfg.Cost = NewCost(cfg.MaxRows, cfg.Executors)
			for n := 1; n < 2*cfg.MaxRows; n *= 2 {
				cfg.Cost.Seed(min(n, cfg.MaxRows), 0, takes(min(n, cfg.MaxRows)))
			}
		}
		b := &bench{t: t, takes: takes}
		var err error
		if b.Batcher, err = New(b.run, cfg); err != nil {
			t.Fatal(err)
		}
		f(b)
		b.wg.Wait()
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func (b *bench) run(ctx context.Context, batch []*Task[string]) error {
	var names []string
	rows := 0
	for _, t := range batch {
		names = append(names, t.Value)
		rows += t.Rows
	}
	b.mu.Lock()
	b.runs = append(b.runs, strings.Join(names, " "))
	b.mu.Unlock()
	select {
	case <-time.After(b.takes(rows)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reply is what one Submit came to.
type reply struct {
	timing Timing
	err    error
	took   time.Duration
}

// send submits task in the background, after everything sent before it has
// been queued or started, and returns where its reply will be.
func (b *bench) send(ctx context.Context, task *Task[string]) *reply {
	r := &reply{}
	start := time.Now()
	b.wg.Go(func() {
		r.timing, r.err = b.Submit(ctx, task)
		r.took = time.Since(start)
	})
	synctest.Wait()
	return r
}

// online sends one-row online tasks.
func (b *bench) online(names ...string) (replies []*reply) {
	for _, name := range names {
		replies = append(replies, b.send(b.t.Context(), &Task[string]{Value: name, Rows: 1}))
	}
	return replies
}

func (b *bench) wantRuns(want ...string) {
	b.t.Helper()
	b.wg.Wait()
	if got := strings.Join(b.runs, " | "); got != strings.Join(want, " | ") {
		b.t.Errorf("runs: %s, want %s", got, strings.Join(want, " | "))
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if fault.CodeOf(err) != code || err == nil {
		t.Errorf("error %v, want code %q", err, code)
	}
}

func TestIdleRunsAtOnce(t *testing.T) {
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond}, linear(4*millisecond, 1), func(b *bench) {
		for range 3 {
			r := b.online("a")[0]
			b.wg.Wait()
			if r.err != nil || r.took > 5*millisecond || r.timing.Queue != 0 {
				t.Errorf("%+v, want an undelayed run of 4 ms", *r)
			}
		}
	})
}

func TestBusyGathers(t *testing.T) {
	inBubble(t, Config{MaxRows: 4, SLO: 100 * millisecond}, linear(4*millisecond, 1), func(b *bench) {
		first := b.online("a")[0]
		b.online("b", "c", "d", "e", "f")
		b.wantRuns("a", "b c d e", "f")
		if first.took > 5*millisecond {
			t.Errorf("the first leader was kept for %v by the runs of others", first.took)
		}
	})
}

func TestBucketsDoNotMix(t *testing.T) {
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond}, linear(4*millisecond, 1), func(b *bench) {
		b.online("a")
		for i, name := range []string{"x1", "y1", "x2", "y2"} {
			b.send(b.t.Context(), &Task[string]{Value: name, Rows: 1, Bucket: uint64(i%2 + 7)})
		}
		b.wantRuns("a", "x1 x2", "y1 y2")
	})
}

func TestEarliestDeadlineFirst(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 100 * millisecond}, linear(4*millisecond, 0), func(b *bench) {
		b.online("a", "b", "c")
		b.send(b.t.Context(), &Task[string]{Value: "urgent", Rows: 1, Deadline: time.Now().Add(20 * millisecond)})
		b.wantRuns("a", "urgent", "b", "c")
	})
}

func TestExpiresWhileAllExecutorsAreBusy(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: time.Second, Cost: NewCost(1, 1)}, linear(500*millisecond, 0), func(b *bench) {
		b.online("slow")
		r := b.send(b.t.Context(), &Task[string]{Rows: 1, Deadline: time.Now().Add(5 * millisecond)})
		b.wg.Wait()
		wantCode(t, r.err, CodeTimeout)
		if r.took != 5*millisecond || !strings.Contains(r.err.Error(), "Request timeout expired") {
			t.Errorf("after %v: %v", r.took, r.err)
		}
		if got := b.Stats().Refused.Expired; got != 1 {
			t.Errorf("%d counted as expired", got)
		}
	})
}

func TestRefusesLateWorkAtOnceWithAnHonestHint(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 30 * millisecond}, linear(10*millisecond, 0), func(b *bench) {
		b.online("a", "b", "c")
		late := b.online("late")[0]
		wantCode(t, late.err, CodeOverloaded)
		if late.took != 0 {
			t.Errorf("refused after %v", late.took)
		}
		hint := fault.Of(late.err).RetryAfter
		if hint < millisecond || hint > 15*millisecond {
			t.Errorf("retry after %v, want about one run", hint)
		}
		time.Sleep(hint)
		again := b.online("again")[0]
		b.wantRuns("a", "b", "c", "again")
		if again.err != nil || again.took > 30*millisecond {
			t.Errorf("a retry as told came to %v after %v", again.err, again.took)
		}
	})
}

func TestEarlyDeadlineDoesNotBreakAcceptedOnes(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 30 * millisecond}, linear(10*millisecond, 0), func(b *bench) {
		accepted := b.online("a", "b", "c")
		r := b.send(b.t.Context(), &Task[string]{Rows: 1, Deadline: time.Now().Add(25 * millisecond)})
		wantCode(t, r.err, CodeOverloaded)
		b.wg.Wait()
		for _, a := range accepted {
			if a.err != nil {
				t.Error(a.err)
			}
		}
	})
}

func TestQueueFull(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: time.Second, MaxQueue: 2}, linear(10*millisecond, 0), func(b *bench) {
		r := b.online("a", "b", "c", "d")[3]
		wantCode(t, r.err, CodeQueueFull)
		if !strings.Contains(r.err.Error(), "Exceeds maximum queue size") {
			t.Error(r.err)
		}
		bulk := b.send(b.t.Context(), &Task[string]{Value: "bulk", Rows: 1, Class: Bulk})
		b.wantRuns("a", "b", "c", "bulk")
		if bulk.err != nil {
			t.Error(bulk.err)
		}
	})
}

// A place in a full queue goes to who has fewer, whatever its task costs; the newest of
// who has most gives it.
func TestPlacesAreCounted(t *testing.T) {
	inBubble(t, Config{MaxRows: 8, SLO: 10 * time.Second, MaxQueue: 3}, linear(0, 10*millisecond), func(b *bench) {
		ask := func(tenant, value string, rows int) *reply {
			return b.send(b.t.Context(), &Task[string]{Value: value, Rows: rows, Tenant: tenant})
		}
		b.send(b.t.Context(), &Task[string]{Rows: 8, Tenant: "noisy", Deadline: time.Now().Add(200 * millisecond)}) // no time to run twice
		noisy := []*reply{ask("noisy", "a", 1), ask("noisy", "b", 1), ask("noisy", "c", 1)}
		if err := b.Foresee("quiet", time.Now()); err != nil {
			t.Errorf("foreseen: %v", err)
		}
		quiet := []*reply{ask("quiet", "x", 8), ask("quiet", "y", 8)} // each more than all that the other has
		b.wg.Wait()
		for i, want := range []bool{true, true, false} {
			if (noisy[i].err == nil) != want {
				t.Errorf("the other's %d: %v", i, noisy[i].err)
			}
		}
		if quiet[0].err != nil {
			t.Error(quiet[0].err)
		}
		wantCode(t, quiet[1].err, CodeQueueFull)
	})
}

func TestCancelInTheQueue(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: time.Second}, linear(10*millisecond, 0), func(b *bench) {
		b.online("a")
		ctx, cancel := context.WithCancel(b.t.Context())
		r := b.send(ctx, &Task[string]{Value: "gone", Rows: 1})
		time.Sleep(millisecond)
		cancel()
		synctest.Wait()
		if !fault.Is(r.err, fault.Canceled) || r.took != millisecond {
			t.Errorf("after %v: %v", r.took, r.err)
		}
		b.wantRuns("a")
	})
}

func TestRunEndsWhenEveryMemberIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cost := NewCost(4, 1)
		cost.Seed(4, 0, 10*millisecond)
		cut := 0
		b, err := New(func(ctx context.Context, batch []*Task[int]) error {
			select {
			case <-time.After(10 * millisecond):
				return nil
			case <-ctx.Done():
				cut++
				time.Sleep(millisecond) // until the engine has noticed
				return ctx.Err()
			}
		}, Config{MaxRows: 4, SLO: time.Second, Executors: 1, Cost: cost})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		submit := func(ctx context.Context, want error, after time.Duration) {
			wg.Go(func() {
				start := time.Now()
				if _, err := b.Submit(ctx, &Task[int]{Rows: 1}); !errors.Is(err, want) || time.Since(start) != after {
					t.Errorf("after %v: %v, want %v after %v", time.Since(start), err, want, after)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for round := range 2 { // the second shows that a cut run leaves no trace
			half, cancelHalf := context.WithCancel(t.Context())
			all, cancelAll := context.WithCancel(t.Context())
			submit(ctx, nil, 10*millisecond)
			submit(half, nil, 20*millisecond) // leads the second run
			submit(ctx, nil, 20*millisecond)
			time.Sleep(15 * millisecond)
			cancelHalf() // one of two: the run goes on
			wg.Wait()

			submit(ctx, nil, 10*millisecond)
			submit(all, context.Canceled, 16*millisecond)
			submit(all, context.Canceled, 16*millisecond)
			time.Sleep(15 * millisecond)
			cancelAll()
			wg.Wait()
			if cut != round+1 {
				t.Errorf("%d runs were cut, want %d", cut, round+1)
			}
		}
	})
}

// A run that was to be short, and hangs, ends when its caller goes, as a longer one does;
// also where runs before it were as short as they were to be.
func TestHungShortRunEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cost := NewCost(1, 1)
		cost.Seed(1, 0, millisecond/4)
		b, err := New(func(ctx context.Context, batch []*Task[bool]) error {
			if !batch[0].Value {
				time.Sleep(millisecond / 4)
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}, Config{MaxRows: 1, SLO: time.Second, Executors: 1, Cost: cost})
		if err != nil {
			t.Fatal(err)
		}
		for before := range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			for range before {
				if _, err := b.Submit(ctx, &Task[bool]{Rows: 1}); err != nil {
					t.Fatal(err)
				}
			}
			gone := time.Duration(before) * millisecond / 2
			time.AfterFunc(gone, cancel)
			start := time.Now()
			_, err := b.Submit(ctx, &Task[bool]{Rows: 1, Value: true})
			if took := time.Since(start); !errors.Is(err, context.Canceled) || took > max(gone, watchFrom) {
				t.Errorf("after %v: %v, its caller was gone after %v", took, err, gone)
			}
		}
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPanicFailsItsRunAlone(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cost := NewCost(4, 1)
				cost.Seed(4, 0, 10*millisecond)
				b, err := New(func(_ context.Context, batch []*Task[string]) error {
					time.Sleep(10 * millisecond)
					if batch[0].Value == "bad" {
						end()
					}
					return nil
				}, Config{MaxRows: 4, SLO: time.Second, Executors: 1, Cost: cost})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				var failed atomic.Int32
				for _, value := range []string{"first", "bad", "member", "member"} {
					wg.Go(func() {
						_, err := b.Submit(t.Context(), &Task[string]{Value: value, Rows: 1})
						if fault.Is(err, fault.Internal) && !strings.Contains(fault.Of(err).Message, "boom") {
							failed.Add(1)
						}
					})
					synctest.Wait()
				}
				wg.Wait()
				if want := map[string]int32{"panic": 3, "goexit": 2}[name]; failed.Load() != want { // a leader that exits never returns
					t.Errorf("%d tasks failed as internal, want %d", failed.Load(), want)
				}
				if _, err := b.Submit(t.Context(), &Task[string]{Rows: 1}); err != nil {
					t.Errorf("after it: %v", err)
				}
				if err := b.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestDrain(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: time.Second}, linear(10*millisecond, 0), func(b *bench) {
		accepted := b.online("a", "b")
		short, cancel := context.WithTimeout(b.t.Context(), millisecond)
		defer cancel()
		if err := b.Drain(short); !fault.Is(err, fault.DeadlineExceeded) {
			t.Errorf("a drain that cannot end in time: %v", err)
		}
		wantCode(t, b.online("late")[0].err, CodeDraining)
		for range 2 {
			if err := b.Drain(b.t.Context()); err != nil {
				t.Error(err)
			}
		}
		b.wg.Wait()
		for _, r := range accepted {
			if r.err != nil {
				t.Errorf("accepted before the drain: %v", r.err)
			}
		}
		b.wantRuns("a", "b")
	})
}

func TestTooManyRows(t *testing.T) {
	inBubble(t, Config{MaxRows: 4, SLO: time.Second}, linear(millisecond, 0), func(b *bench) {
		for _, rows := range []int{-1, 5} {
			if r := b.send(b.t.Context(), &Task[string]{Rows: rows}); !fault.Is(r.err, fault.Invalid) {
				t.Errorf("%d rows: %v", rows, r.err)
			}
		}
		none := b.send(b.t.Context(), &Task[string]{Value: "none", Rows: 0})
		b.wantRuns("none")
		if none.err != nil {
			t.Error(none.err)
		}
	})
}

// TestRecoversFromAPessimisticTable: where the table says that nothing can be
// in time, idle executors still run, and so the table learns better.
func TestRecoversFromAPessimisticTable(t *testing.T) {
	cost := NewCost(4, 1)
	cost.Seed(1, 0, 10*time.Second)
	inBubble(t, Config{MaxRows: 4, SLO: 50 * millisecond, Cost: cost}, linear(millisecond, 0), func(b *bench) {
		for range 60 {
			b.online("a", "b")
			b.wg.Wait()
		}
		for _, r := range b.online("a", "b") {
			b.wg.Wait()
			if r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

// TestHungRunStopsAdmission: while a run takes far longer than forecast, new
// work is refused rather than queued to its death.
func TestHungRunStopsAdmission(t *testing.T) {
	cost := NewCost(1, 1)
	cost.Seed(1, 0, 10*millisecond)
	inBubble(t, Config{MaxRows: 1, SLO: 50 * millisecond, Cost: cost}, linear(10*time.Second, 0), func(b *bench) {
		b.online("hung")
		time.Sleep(time.Second)
		wantCode(t, b.online("late")[0].err, CodeOverloaded)
	})
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	b, err := New(func(context.Context, []*Task[int]) error { return nil }, Config{MaxRows: 8, SLO: time.Second, Executors: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task := &Task[int]{Rows: 1, Tenant: "t"}
	if n := testing.AllocsPerRun(1000, func() { _, _ = b.Submit(ctx, task) }); n != 0 {
		t.Errorf("%v allocations in a Submit", n)
	}
	if err := b.Drain(ctx); err != nil {
		t.Error(err)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := Config{MaxRows: 4, SLO: time.Second}
	for want, change := range map[string]func(*Config){
		"MaxRows":         func(c *Config) { c.MaxRows = 0 },
		"SLO":             func(c *Config) { c.SLO = 0 },
		"Executors":       func(c *Config) { c.Executors = -1 },
		"queue size":      func(c *Config) { c.MaxQueue = -1 },
		"MaxQueueDelay":   func(c *Config) { c.Explicit = &Explicit{MaxQueueDelay: -1} },
		"DefaultPriority": func(c *Config) { c.Explicit = &Explicit{PriorityLevels: 2, DefaultPriority: 3} },
		"preferred size":  func(c *Config) { c.Explicit = &Explicit{PreferredSizes: []int{5}} },
	} {
		cfg := good
		change(&cfg)
		_, err := New(func(context.Context, []*Task[int]) error { return nil }, cfg)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name %s", err, want)
		}
	}
}
