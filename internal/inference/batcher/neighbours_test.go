package batcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// cores are two executors on which 16 rows take what the sample transformer's do, 5.2 ms, and
// longer by a part beside another run, as on two cores with caches in common.
type cores struct {
	slower  float64
	mu      sync.Mutex
	active  int
	changed chan struct{}
}

func (c *cores) run(ctx context.Context, batch []*Task[struct{}]) error {
	rows := 0
	for _, task := range batch {
		rows += task.Rows
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(1)
	defer c.turn(-1)
	for left := float64(c.takes(rows, 0)); left >= 1; {
		speed, changed, since := 1/(1+c.slower*float64(c.active-1)), c.changed, time.Now()
		c.mu.Unlock()
		select {
		case <-time.After(time.Duration(left / speed)):
		case <-changed:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		left -= float64(time.Since(since)) * speed
	}
	return nil
}

// turn has one run more or less under way, which changes how fast all are.
func (c *cores) turn(by int) {
	c.active += by
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

func (c *cores) takes(rows, others int) time.Duration {
	alone := 400*time.Microsecond + time.Duration(rows)*300*time.Microsecond
	return time.Duration(float64(alone) * (1 + c.slower*float64(others)))
}

// cost is a table that knows all of this.
func (c *cores) cost() *Cost {
	cost := NewCost(64, 2)
	for k := range 2 {
		for rows := 1; rows <= 64; rows *= 2 {
			cost.Seed(rows, k, c.takes(rows, k))
		}
	}
	return cost
}

// swept is the table that loading leaves: of all sizes alone, as the shortest of its inputs have it,
// which cost a seventh and the more rows the less, and of a single row beside another run.
func (c *cores) swept() *Cost {
	cost := NewCost(64, 2)
	for rows := 1; rows <= 64; rows *= 2 {
		cost.Seed(rows, 0, 30*time.Microsecond+time.Duration(rows)*43*time.Microsecond)
	}
	cost.Seed(1, 1, 90*time.Microsecond)
	return cost
}

// capacity is how many requests of 16 rows a second they answer.
func (c *cores) capacity() float64 { return 2 / c.takes(16, 1).Seconds() }

// neighbours are two tenants that ask for a tenth of the capacity each, beside one that
// asks for flood times as much as there is from the time since on.
type neighbours struct {
	flood   float64
	since   time.Duration
	lasts   time.Duration
	slower  float64 // of cores
	buckets int     // shapes, which cannot share a run
	swept   bool    // the table of costs is what loading leaves
	mixed   bool    // one request in twenty is four times as large
	seed    uint64
}

// answers are what those who asked for little saw.
type answers struct {
	took    []time.Duration
	refused int
	noisy   int // rows answered in time
}

func (a *answers) at(q float64) time.Duration {
	slices.Sort(a.took)
	return a.took[min(int(q*float64(len(a.took))), len(a.took)-1)]
}

func (a *answers) String() string {
	return fmt.Sprintf("p50 %.1f, p90 %.1f, p99 %.1f, most %.1f ms of %d, %d refused; %d rows of the flood's", ms(a.at(.5)), ms(a.at(.9)), ms(a.at(.99)), ms(a.at(1)), len(a.took), a.refused, a.noisy)
}

// play adds what those that were sent after from saw.
func (n neighbours) play(t *testing.T, from time.Duration, into *answers) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		device := cores{slower: n.slower}
		cost := device.cost()
		if n.swept {
			cost = device.swept()
		}
		b, err := New(device.run, Config{MaxRows: 64, SLO: time.Second, Executors: 2, Cost: cost})
		if err != nil {
			t.Fatal(err)
		}
		var (
			wg sync.WaitGroup
			mu sync.Mutex
		)
		begin := time.Now()
		ask := func(tenant string, rate float64, since time.Duration, stream uint64) {
			rng := rand.New(rand.NewPCG(n.seed, stream))
			for at := since; at < n.lasts; {
				at += time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
				time.Sleep(time.Until(begin.Add(at)))
				rows := 16
				if n.mixed && rng.IntN(20) == 0 {
					rows = 64
				}
				task := &Task[struct{}]{Rows: rows, Tenant: tenant, Bucket: rng.Uint64N(uint64(max(n.buckets, 1)))}
				wg.Go(func() {
					sent := time.Now()
					_, err := b.Submit(t.Context(), task)
					took := time.Since(sent)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case at < from:
					case tenant == "noisy":
						if err == nil && took <= time.Second {
							into.noisy += rows
						}
					case err != nil:
						into.refused++
					default:
						into.took = append(into.took, took)
					}
				})
			}
		}
		wg.Go(func() { ask("quiet", .1*device.capacity(), 0, 1) })
		wg.Go(func() { ask("calm", .1*device.capacity(), 0, 2) })
		if n.flood > 0 {
			wg.Go(func() { ask("noisy", n.flood*device.capacity(), n.since, 3) })
		}
		wg.Wait()
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestNeighboursOfAFlood: beside one that asks for twice what there is, who asks for a tenth is
// answered as soon as alone, also where a run takes longer beside another, from the
// flood's first second on. That costs the flood at most a tenth.
func TestNeighboursOfAFlood(t *testing.T) {
	for _, c := range []struct {
		n           neighbours
		most, first float64 // times as late as alone
	}{
		{neighbours{buckets: 1}, 1.1, 1.15},
		{neighbours{buckets: 4, slower: .25}, 1.1, 1.15},
		{neighbours{buckets: 4, slower: .25, mixed: true}, 1.2, 1.25}, // the slowest are large, and run beside large ones
	} {
		var alone, beside, first answers
		n := c.n
		for n.seed = range uint64(3) {
			n.flood, n.since, n.lasts = 0, 0, 10*time.Second
			n.play(t, 0, &alone)
			n.flood, n.lasts = 2, 11*time.Second
			n.play(t, time.Second, &beside)
		}
		n.since, n.lasts = time.Second, 2*time.Second
		for n.seed = range uint64(20) {
			n.play(t, n.since, &first)
		}
		t.Logf("%+v\nalone         %v\nbeside        %v\nfirst second  %v", c.n, &alone, &beside, &first)
		device := cores{slower: n.slower}
		if left := .8 * 16 * device.capacity() * 3 * 10; float64(beside.noisy) < .9*left {
			t.Errorf("%d rows of the flood's, of %.0f that the others leave", beside.noisy, left)
		}
		for a, most := range map[*answers]float64{&beside: c.most, &first: c.first} {
			if a.refused > 0 || float64(a.at(.99)) > most*float64(alone.at(.99)) {
				t.Errorf("alone %v, with the flood %v", &alone, a)
			}
		}
	}
}

// TestFloodOfSizesNeverSwept: what a flood costs is known from the first sizes on that were run
// beside another run, where loading has measured a single short row there: the sizes between are
// no bargain, of which all that waits would seem to need a fraction of its time.
func TestFloodOfSizesNeverSwept(t *testing.T) {
	var alone, beside answers
	n := neighbours{buckets: 4, slower: .25, swept: true}
	for n.seed = range uint64(5) {
		n.flood, n.since, n.lasts = 0, 0, 10*time.Second
		n.play(t, 2*time.Second, &alone)
		n.flood, n.since, n.lasts = 2, 3*time.Second, 9*time.Second
		n.play(t, n.since, &beside)
	}
	t.Logf("alone   %v\nbeside  %v", &alone, &beside)
	if beside.refused > 0 || float64(beside.at(.99)) > 1.1*1.25*float64(alone.at(.99)) {
		t.Errorf("alone %v, with the flood %v", &alone, &beside)
	}
}

// TestUndisturbedRunsEnd: others' runs begin beside one that is to be undisturbed once it was to end, though it
// does not.
func TestUndisturbedRunsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device := cores{slower: .25}
		hang, hung := make(chan struct{}), atomic.Bool{}
		b, err := New(func(ctx context.Context, batch []*Task[struct{}]) error {
			if batch[0].Tenant == "quiet" && hung.CompareAndSwap(false, true) {
				<-hang
				return nil
			}
			return device.run(context.WithoutCancel(ctx), batch) // who comes waits for it
		}, Config{MaxRows: 64, SLO: time.Second, Executors: 2, Cost: device.cost()})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		answered := 0
		var mu sync.Mutex
		ask := func(tenant string, n int) {
			for range n {
				wg.Go(func() {
					if _, err := b.Submit(t.Context(), &Task[struct{}]{Rows: 16, Tenant: tenant, Bucket: uint64(n % 3)}); err == nil && tenant == "noisy" {
						mu.Lock()
						answered++
						mu.Unlock()
					}
				})
			}
			time.Sleep(time.Millisecond)
		}
		ask("noisy", 60) // some 200 ms of both executors
		ask("quiet", 1)
		time.Sleep(400 * time.Millisecond)
		mu.Lock()
		if !hung.Load() || answered < 50 {
			t.Errorf("%d of 60 were answered beside a run that hangs: %v", answered, hung.Load())
		}
		mu.Unlock()
		close(hang)
		wg.Wait()
		if err := b.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
