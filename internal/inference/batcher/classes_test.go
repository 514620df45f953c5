package batcher

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/spare"
)

// bulk sends one-row bulk tasks of a tenant.
func (b *bench) bulk(tenant string, names ...string) (replies []*reply) {
	for _, name := range names {
		replies = append(replies, b.send(b.t.Context(), &Task[string]{Value: name, Rows: 1, Class: Bulk, Tenant: tenant}))
	}
	return replies
}

func TestBulkFillsSpareRows(t *testing.T) {
	inBubble(t, Config{MaxRows: 4, SLO: 100 * millisecond}, linear(4*millisecond, millisecond/100), func(b *bench) {
		b.online("a")
		b.bulk("", "x", "y", "z")
		b.online("b", "c")
		b.wantRuns("a", "b c x y", "z")
	})
}

// A bulk task that waits has no turn on the processors, so that others' work goes on.
func TestBulkWaitsWithoutATurn(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 100 * millisecond}, linear(4*millisecond, 0), func(b *bench) {
		cpu := spare.New()
		defer cpu.Close()
		b.online("a")
		ctx, began := b.t.Context(), time.Now()
		var all sync.WaitGroup
		for range cpu.Cores() {
			all.Go(func() {
				if err := cpu.Do(ctx, func(turn *spare.Turn) {
					turn.Lend(ctx, func(ctx context.Context) {
						if _, err := b.Submit(ctx, &Task[string]{Value: "x", Rows: 1, Class: Bulk}); err != nil {
							t.Error(err)
						}
					})
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := cpu.Do(ctx, func(*spare.Turn) {}); err != nil || time.Since(began) != 0 {
			t.Errorf("other work has its turn after %s, %v", time.Since(began), err)
		}
		all.Wait()
	})
}

func TestBulkOfAnotherBucketWaits(t *testing.T) {
	inBubble(t, Config{MaxRows: 4, SLO: 100 * millisecond}, linear(4*millisecond, millisecond/100), func(b *bench) {
		b.online("a")
		b.send(b.t.Context(), &Task[string]{Value: "x", Rows: 1, Class: Bulk, Bucket: 9})
		b.online("b")
		b.wantRuns("a", "b", "x")
	})
}

func TestBulkNeverCostsADeadline(t *testing.T) {
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond}, linear(4*millisecond, millisecond), func(b *bench) {
		b.online("a") // until 5 ms
		b.bulk("", "x", "y", "z")
		tight := b.send(b.t.Context(), &Task[string]{Value: "tight", Rows: 1, Deadline: time.Now().Add(10500 * time.Microsecond)})
		b.wantRuns("a", "tight", "x y z")
		if tight.err != nil {
			t.Error(tight.err)
		}
	})
}

func TestBulkIsNeverRefused(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 10 * millisecond, MaxQueue: 1}, linear(4*millisecond, 0), func(b *bench) {
		var replies []*reply
		for range 50 { // 200 ms of work at an SLO of 10
			replies = append(replies, b.bulk("", "x")...)
		}
		b.wg.Wait()
		for _, r := range replies {
			if r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

func TestBulkLeavesAnExecutorToOnlineWork(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 100 * millisecond, Executors: 2}, linear(10*millisecond, 0), func(b *bench) {
		b.online("warm")
		b.wg.Wait()
		b.bulk("", "x", "y", "z")
		time.Sleep(millisecond)
		r := b.online("now")[0]
		b.wg.Wait()
		if r.timing.Queue != 0 {
			t.Errorf("online work waited %v for bulk", r.timing.Queue)
		}
	})
}

// TestBulkIsInNobodysWay: with an executor free, online work waits for no bulk run,
// though it would for an online one, and takes none for company.
func TestBulkIsInNobodysWay(t *testing.T) {
	cost := NewCost(8, 2)
	for n := 1; n <= 8; n *= 2 {
		cost.Seed(n, 0, 10*millisecond)
		cost.Seed(n, 1, 15*millisecond)
	}
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond, Executors: 2, Cost: cost}, linear(10*millisecond, 0), func(b *bench) {
		b.bulk("", "x")
		time.Sleep(millisecond)
		r := b.online("now")[0]
		b.wg.Wait()
		if r.timing.Queue != 0 || b.crowd != 0 {
			t.Errorf("online work waited %v for bulk, crowd %d", r.timing.Queue, b.crowd)
		}
		if b.bulks != 0 {
			t.Errorf("%d bulk runs are left", b.bulks)
		}
	})
}

// TestBulkLeadersAreOvertaken: online work does not wait for a bulk task that was woken to lead, and has yet to
// come; nor is that one forgotten, however often it is overtaken.
func TestBulkLeadersAreOvertaken(t *testing.T) {
	inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond}, linear(4*millisecond, 0), func(b *bench) {
		slow := &Task[string]{Value: "slow", Rows: 1, Class: Bulk, Bucket: 9}
		slow.wake = make(chan signal, 2)
		b.Batcher.mu.Lock()
		if err := b.admit(slow, b.now()); err != nil {
			b.t.Fatal(err)
		}
		b.enqueue(slow)
		b.offer(b.now(), nil)
		b.Batcher.mu.Unlock()
		for range 5 {
			r := b.online("now")[0]
			if b.wg.Wait(); r.err != nil || r.timing.Queue != 0 || b.leader != slow {
				b.t.Fatalf("%+v beside a bulk task that is to lead", *r)
			}
			if len(slow.wake) != 1 {
				b.t.Fatal("it is woken", len(slow.wake), "times")
			}
		}
		if _, err := b.await(b.t.Context(), slow); err != nil {
			b.t.Error(err)
		}
		b.wantRuns("now", "now", "now", "now", "now", "slow")
	})
}

// TestBulkIsBriefBesideOnlineWork: beside online work a run of bulk tasks is as long as
// two rows by themselves, or half a millisecond.
func TestBulkIsBriefBesideOnlineWork(t *testing.T) {
	for row, want := range map[time.Duration]string{millisecond: "a b c", millisecond / 10: "a b c d e"} {
		cost := NewCost(8, 1)
		for n := 1; n <= 8; n *= 2 {
			cost.Seed(n, 0, millisecond+time.Duration(n)*row)
		}
		inBubble(t, Config{MaxRows: 8, SLO: 100 * millisecond, Executors: 1, Cost: cost}, linear(millisecond, row), func(b *bench) {
			b.online("first")
			b.bulk("", "a", "b", "c", "d", "e")
			if b.wg.Wait(); b.runs[1] != want {
				t.Errorf("a row takes %v: %q, want %q at first", row, b.runs, want)
			}
		})
	}
}

// TestBulkRunsAreBounded: a bulk run by itself leaves online work that arrives
// right behind it the time to be answered within the SLO.
func TestBulkRunsAreBounded(t *testing.T) {
	inBubble(t, Config{MaxRows: 64, SLO: 40 * millisecond}, linear(4*millisecond, millisecond/2), func(b *bench) {
		var names []string
		for i := range 64 {
			names = append(names, fmt.Sprint(i))
		}
		b.bulk("", names...)
		time.Sleep(5 * millisecond) // the first is done, the rest has just started
		r := b.online("now")[0]
		b.wg.Wait()
		if r.err != nil || r.took > 40*millisecond {
			t.Errorf("%+v behind a bulk run", *r)
		}
	})
}

func TestBulkTenantsShareByCost(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 100 * millisecond}, linear(4*millisecond, 0), func(b *bench) {
		b.bulk("greedy", "a1", "a2", "a3", "a4", "a5")
		b.bulk("modest", "b1", "b2")
		b.wantRuns("a1", "b1", "a2", "b2", "a3", "a4", "a5")
	})
}

// TestTenantsShareUnderOverload: a tenant that asks for more than there is
// does not crowd out one that asks for less than its share.
func TestTenantsShareUnderOverload(t *testing.T) {
	inBubble(t, Config{MaxRows: 1, SLO: 50 * millisecond}, linear(2*millisecond, 0), func(b *bench) {
		var modest, greedy []*reply
		for i := range 1000 { // a run takes two rounds
			for range 2 {
				greedy = append(greedy, b.send(b.t.Context(), &Task[string]{Rows: 1, Tenant: "greedy"}))
			}
			if i%5 == 0 { // 40 % of the capacity, the other asks for 400 %
				modest = append(modest, b.send(b.t.Context(), &Task[string]{Rows: 1, Tenant: "modest"}))
			}
			time.Sleep(millisecond)
		}
		b.wg.Wait()
		served := func(replies []*reply) (n int) {
			for _, r := range replies {
				if r.err == nil && r.took <= 50*millisecond {
					n++
				}
			}
			return n
		}
		if n := served(modest); n < len(modest)*95/100 {
			t.Errorf("the modest tenant had %d of %d served", n, len(modest))
		}
		if n := served(greedy) + served(modest); n < 450 { // a tenth may be forgone for the modest one
			t.Errorf("%d served of about 500 possible", n)
		}
	})
}

// TestLightTenantsBarelyWait: beside one that asks for twice the capacity, who asks
// for a tenth of it is always served, and hardly later than alone: a run under way
// has to end first, which is no longer than pays.
func TestLightTenantsBarelyWait(t *testing.T) {
	for name, c := range map[string]struct {
		executors int
		light     int // rows of a light one's request; a noisy one has 16
		takes     func(rows int) time.Duration
		every     int           // milliseconds between requests of the noisy one; a light one waits twenty times as long
		possible  int           // requests a second
		most      time.Duration // p99
	}{
		"rows are all but free": {1, 16, linear(4*millisecond, millisecond/4), 2, 200, 34 * millisecond}, // 20 ms for 4 tasks with 16 rows
		"rows cost":             {2, 16, linear(millisecond/2, millisecond), 4, 121, 26 * millisecond},   // 16.5 ms for one
		"light ones are small":  {1, 4, linear(millisecond/2, millisecond), 8, 60, 22 * millisecond},     // 4.5 ms for one, behind 16.5
	} {
		for _, noise := range []bool{false, true} {
			cfg := Config{MaxRows: 64, SLO: time.Second, Executors: c.executors}
			inBubble(t, cfg, c.takes, func(b *bench) {
				replies := map[string][]*reply{}
				send := func(tenant string) {
					rows := c.light
					if tenant == "noisy" {
						rows = 16
					}
					replies[tenant] = append(replies[tenant], b.send(b.t.Context(), &Task[string]{Rows: rows, Tenant: tenant}))
				}
				const span = 4000 // ms, and more
				for i := range span {
					if noise && i%c.every == 0 {
						send("noisy")
					}
					if i%(20*c.every+3) == 7 {
						send("quiet")
					}
					if i%(20*c.every+1) == 31 {
						send("calm")
					}
					time.Sleep(millisecond)
				}
				b.wg.Wait()
				others := len(replies["quiet"]) + len(replies["calm"])
				for tenant, all := range replies {
					served, took := 0, []time.Duration{}
					for _, r := range all {
						if r.err == nil {
							served++
							took = append(took, r.took)
						}
					}
					slices.Sort(took)
					b.t.Logf("%s, noise %t, %s: %d of %d served, p50 %s, p99 %s", name, noise, tenant, served, len(all), took[len(took)/2], took[len(took)*99/100])
					switch {
					case tenant == "noisy" && served < (c.possible*span/1000-others)*9/10:
						b.t.Errorf("noisy: %d of %d served, less than nine tenths of what the others leave", served, len(all))
					case tenant != "noisy" && served < len(all):
						b.t.Errorf("%s: %d of %d served", tenant, served, len(all))
					case tenant != "noisy" && took[len(took)*99/100] > c.most:
						b.t.Errorf("%s waits for %s", tenant, took[len(took)*99/100])
					}
				}
			})
		}
	}
}

// Nothing is kept free for others where there are none, and no more than half for
// those that want everything.
func TestHeadroom(t *testing.T) {
	ts := newTenants[string](time.Second)
	now := time.Duration(0)
	for range 100 {
		now += 10 * millisecond
		a := ts.get("a")
		ts.charge(a, 10*millisecond, now)
		if light, headroom := ts.standing(a, now, 1); light || headroom != 0 {
			t.Fatalf("alone: light %t, %v kept free", light, headroom)
		}
	}
	for range 500 {
		now += 10 * millisecond
		ts.charge(ts.get("a"), 9*millisecond, now)
		ts.charge(ts.get("b"), millisecond, now)
	}
	light, free := ts.standing(ts.get("a"), now, 1)
	if light || free < 1.0/reserve+0.09 || free > 1.0/reserve+0.11 {
		t.Errorf("beside a tenth: light %t, %v kept free", light, free)
	}
	for range 500 {
		now += 10 * millisecond
		ts.charge(ts.get("a"), 9*millisecond, now)
		ts.charge(ts.get("b"), 9*millisecond, now)
	}
	if _, free := ts.standing(ts.get("a"), now, 1); free != mostHeadroom {
		t.Errorf("beside as much: %v kept free", free)
	}
	if _, free := ts.standing(ts.get("a"), now+2*time.Second, 1); free != 0 {
		t.Errorf("long after: %v kept free", free)
	}
}

func TestPriorityIsStrictWithinTheAgeingBound(t *testing.T) {
	levels := &Explicit{PriorityLevels: 2, DefaultPriority: 2, DefaultTimeout: time.Hour}
	inBubble(t, Config{MaxRows: 1, SLO: 20 * millisecond, Explicit: levels}, linear(4*millisecond, 0), func(b *bench) {
		prior := func(name string, level int) {
			b.send(b.t.Context(), &Task[string]{Value: name, Rows: 1, Priority: level})
		}
		prior("a", 0)
		prior("low", 2)
		prior("high1", 1)
		prior("high2", 1)
		time.Sleep(21 * millisecond)
		b.wantRuns("a", "high1", "high2", "low")

		b.runs = nil
		prior("a", 0)
		prior("aged", 2)
		var stop atomic.Bool
		b.wg.Go(func() { // an endless supply of urgent work
			for !stop.Load() {
				b.wg.Go(func() { _, _ = b.Submit(b.t.Context(), &Task[string]{Value: "h", Rows: 1, Priority: 1}) })
				time.Sleep(3 * millisecond)
			}
		})
		time.Sleep(60 * millisecond)
		stop.Store(true)
		synctest.Wait()
		b.wg.Wait()
		at := 0
		for i, run := range b.runs {
			if run == "aged" {
				at = i
			}
		}
		if at < 3 || at > 9 {
			t.Errorf("the aged task was run no. %d, want it after some urgent ones and within about its bound", at+1)
		}
	})
}
