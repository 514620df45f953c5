package batcher

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation plays open-loop traffic, on simulated time, against the real
// batcher and against simple policies, and checks how they compare. Its
// numbers are those of the model below and of one seed: a guide to the
// policies, not a measurement of any product.

const (
	simSLO  = 50 * time.Millisecond
	simRows = 32
	simTime = 8 * time.Second
	simMost = 50_000 // requests
)

// machine is what runs take on simulated hardware.
type machine struct {
	fixed, row time.Duration // a run of n rows takes fixed + n*row
	executors  int
	shared     bool // the executors share one device by time slices
	drift      int  // how many times as long runs take as the warm-up sweep said; 0 for 1
}

var (
	gpu     = machine{fixed: 4 * time.Millisecond, row: time.Millisecond / 4, executors: 1}
	gpuSlow = machine{fixed: gpu.fixed, row: gpu.row, executors: 1, drift: 2}
	gpuTwo  = machine{fixed: gpu.fixed, row: gpu.row, executors: 2, shared: true}
	cpuFour = machine{fixed: time.Millisecond / 2, row: 4 * time.Millisecond, executors: 4}
)

func (m machine) takes(n int) time.Duration {
	return (m.fixed + time.Duration(n)*m.row) * time.Duration(max(m.drift, 1))
}

// capacity returns rows per second: of full runs where they pay, else of
// single rows.
func (m machine) capacity() float64 {
	if m.row < m.fixed {
		return simRows / m.takes(simRows).Seconds()
	}
	return float64(m.executors) / m.takes(1).Seconds()
}

// cost is the machine's warm-up sweep.
func (m machine) cost() *Cost {
	c := NewCost(simRows, m.executors)
	m.drift = 0
	for k := range m.executors {
		for n := 1; n <= simRows; n *= 2 {
			d := m.takes(n)
			if m.shared {
				d *= time.Duration(k + 1)
			}
			c.Seed(n, k, d)
		}
	}
	return c
}

// device runs work, with 5 % noise, and time slices where it is shared.
type device struct {
	machine
	mu      sync.Mutex
	rng     *rand.Rand
	active  int
	changed chan struct{}
}

func newDevice(m machine) *device {
	return &device{machine: m, rng: rand.New(rand.NewPCG(1, 2)), changed: make(chan struct{})}
}

func (d *device) run(rows int) {
	d.mu.Lock()
	work := time.Duration(float64(d.takes(rows)) * (1 + .05*min(max(d.rng.NormFloat64(), -2), 2)))
	if !d.shared {
		d.mu.Unlock()
		time.Sleep(work)
		return
	}
	d.turn(1)
	for work > 0 {
		n, changed, start := d.active, d.changed, time.Now()
		d.mu.Unlock()
		select {
		case <-time.After(work * time.Duration(n)):
		case <-changed:
		}
		d.mu.Lock()
		if work -= time.Since(start) / time.Duration(n); work < time.Microsecond {
			break
		}
	}
	d.turn(-1)
	d.mu.Unlock()
}

// turn changes the number of runs that share the device.
func (d *device) turn(by int) {
	d.active += by
	close(d.changed)
	d.changed = make(chan struct{})
}

// server is a policy under test: it reports whether the request was served.
type server func(ctx context.Context, bucket uint64) bool

// justInTime is the real batcher.
func justInTime(m machine) server {
	d := newDevice(m)
	b, err := New(func(_ context.Context, batch []*Task[struct{}]) error {
		d.run(len(batch))
		return nil
	}, Config{MaxRows: simRows, SLO: simSLO, Executors: m.executors, Cost: m.cost()})
	if err != nil {
		panic(err)
	}
	return func(ctx context.Context, bucket uint64) bool {
		_, err := b.Submit(ctx, &Task[struct{}]{Rows: 1, Bucket: bucket})
		return err == nil
	}
}

// simple is the family of policies of today's servers: when an executor is
// free it takes the first requests in line, as far as they are of one shape,
// once there is a full run or the first has waited for delay. Requests that
// have waited for timeout are refused then.
type simple struct{ delay, timeout time.Duration }

type simpleServer struct {
	simple
	device *device
	mu     sync.Mutex
	queue  []*simpleTask
	more   *sync.Cond
}

type simpleTask struct {
	bucket  uint64
	arrived time.Time
	done    chan bool
}

func (p simple) start(ctx context.Context, m machine) server {
	s := &simpleServer{simple: p, device: newDevice(m)}
	s.more = sync.NewCond(&s.mu)
	for range m.executors {
		go s.work(ctx)
	}
	context.AfterFunc(ctx, s.more.Broadcast)
	return func(_ context.Context, bucket uint64) bool {
		t := &simpleTask{bucket, time.Now(), make(chan bool, 1)}
		s.mu.Lock()
		s.queue = append(s.queue, t)
		s.mu.Unlock()
		s.more.Signal()
		return <-t.done
	}
}

func (s *simpleServer) work(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 {
			if ctx.Err() != nil {
				return
			}
			s.more.Wait()
		}
		if wait := s.delay - time.Since(s.queue[0].arrived); wait > 0 && len(s.queue) < simRows {
			s.mu.Unlock()
			time.Sleep(min(wait, time.Millisecond/4))
			s.mu.Lock()
			continue
		}
		var batch []*simpleTask
		for len(s.queue) > 0 && len(batch) < simRows {
			t := s.queue[0]
			if late := s.timeout > 0 && time.Since(t.arrived) > s.timeout; late {
				t.done <- false
			} else if len(batch) > 0 && t.bucket != batch[0].bucket {
				break
			} else {
				batch = append(batch, t)
			}
			s.queue = s.queue[1:]
		}
		if len(batch) == 0 {
			continue
		}
		s.mu.Unlock()
		s.device.run(len(batch))
		for _, t := range batch {
			t.done <- true
		}
		s.mu.Lock()
	}
}

// traffic is an open-loop arrival process.
type traffic struct {
	load    float64 // of the machine's capacity, on average
	buckets int
	hot     float64 // share of bucket 0, before the rest is spread over all
	bursts  bool    // all of it within every other quarter of a second
}

// result is what the clients saw.
type result struct {
	goodput  float64       // answered inside the SLO, of all offered, in per cent
	p50, p99 time.Duration // of those answered
}

func (r result) String() string {
	return fmt.Sprintf("goodput %5.1f %%  p50 %6.1f  p99 %6.1f", r.goodput, ms(r.p50), ms(r.p99))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// simulate plays tr against the policy that start makes.
func simulate(t *testing.T, m machine, tr traffic, start func(ctx context.Context, m machine) server) (res result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var (
			s       = start(ctx, m)
			rng     = rand.New(rand.NewPCG(3, 4))
			wg      sync.WaitGroup
			mu      sync.Mutex
			answers []time.Duration
			offered int
			good    int
		)
		began := time.Now()
		for at := time.Duration(0); ; offered++ {
			at += time.Duration(rng.ExpFloat64() * float64(time.Second) / (tr.load * m.capacity()))
			when := at
			if tr.bursts { // squeeze half a second into its first half
				period := time.Second / 2
				when = at.Truncate(period) + at%period/2
			}
			if at > simTime || offered == simMost {
				break
			}
			time.Sleep(time.Until(began.Add(when)))
			bucket := uint64(0)
			if rng.Float64() >= tr.hot {
				bucket = uint64(rng.IntN(tr.buckets))
			}
			wg.Go(func() {
				sent := time.Now()
				ok := s(ctx, bucket)
				took := time.Since(sent)
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					return
				}
				answers = append(answers, took)
				if took <= simSLO {
					good++
				}
			})
		}
		wg.Wait()
		slices.Sort(answers)
		at := func(q float64) time.Duration {
			return answers[min(int(math.Ceil(q*float64(len(answers)))), len(answers)-1)]
		}
		res = result{100 * float64(good) / float64(offered), at(.5), at(.99)}
	})
	return res
}

// TestSimulation is the table of cases: what just-in-time batching must reach,
// by itself and against the simple policies.
func TestSimulation(t *testing.T) {
	var (
		jit     = func(_ context.Context, m machine) server { return justInTime(m) }
		delay0  = simple{}.start
		tuned   = simple{timeout: simSLO - gpu.takes(simRows)}.start
		window5 = simple{delay: 5 * time.Millisecond}.start
	)
	cases := []struct {
		name    string
		machine machine
		traffic traffic
		check   func(jit, delay0, tuned, window5 result) bool
	}{
		{"gpu, 5 % load", gpu, traffic{load: .05, buckets: 1}, func(j, d, _, w result) bool {
			return j.p50 < 4800*time.Microsecond && j.p50 <= d.p50+time.Millisecond/10 && w.p50 > j.p50*3/2 && j.goodput > 99.9
		}},
		{"gpu, 95 % load", gpu, traffic{load: .95, buckets: 1}, func(j, d, _, _ result) bool {
			return j.goodput > 99 && j.p99 < simSLO
		}},
		{"gpu, 120 % load", gpu, traffic{load: 1.2, buckets: 1}, func(j, d, u, w result) bool {
			return j.goodput >= 80 && j.p99 <= simSLO && d.goodput < 20 && w.goodput < 20 && j.goodput > u.goodput-2
		}},
		{"gpu, 1000 % load", gpu, traffic{load: 10, buckets: 1}, func(j, _, _, _ result) bool {
			return j.goodput >= 9.5 && j.p99 <= simSLO
		}},
		{"gpu, bursts, 80 % mean", gpu, traffic{load: .8, buckets: 1, bursts: true}, func(j, d, u, _ result) bool {
			return j.goodput > d.goodput*2 && j.goodput > u.goodput-3 && j.p99 <= simSLO
		}},
		{"gpu, 4 shapes, 50 % load", gpu, traffic{load: .5, buckets: 4}, func(j, d, _, _ result) bool {
			return j.goodput > 99.5 && d.goodput < 10
		}},
		{"gpu, 4 shapes, 95 % load", gpu, traffic{load: .95, buckets: 4}, func(j, d, _, _ result) bool {
			return j.goodput >= 92 && d.goodput < 10
		}},
		{"gpu, a hot shape and 8 others, 120 % load", gpu, traffic{load: 1.2, buckets: 8, hot: .8}, func(j, d, u, _ result) bool {
			return j.goodput >= 75 && d.goodput < 10 && u.goodput < 50
		}},
		{"gpu half as fast as at warm-up, 120 % load", gpuSlow, traffic{load: 1.2, buckets: 1}, func(j, d, _, _ result) bool {
			return j.goodput >= 75 && d.goodput < 20 && j.p99 <= simSLO
		}},
		{"2 executors on one gpu, 50 % load", gpuTwo, traffic{load: .5, buckets: 1}, func(j, d, _, w result) bool {
			return j.p50 < d.p50*3/4 && j.p50 < w.p50 && j.goodput > 99.5
		}},
		{"2 executors on one gpu, 120 % load", gpuTwo, traffic{load: 1.2, buckets: 1}, func(j, d, _, _ result) bool {
			return j.goodput >= 80 && d.goodput < 20
		}},
		{"cpu, 4 executors, 50 % load", cpuFour, traffic{load: .5, buckets: 1}, func(j, d, _, w result) bool {
			return j.p99 < 20*time.Millisecond && j.p99 < w.p99*2/3 && j.goodput > 99.9
		}},
		{"cpu, 4 executors, 120 % load", cpuFour, traffic{load: 1.2, buckets: 1}, func(j, d, _, _ result) bool {
			return j.goodput >= 80 && d.goodput < 20 && j.p99 <= simSLO
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := simulate(t, c.machine, c.traffic, jit)
			d := simulate(t, c.machine, c.traffic, delay0)
			u := simulate(t, c.machine, c.traffic, tuned)
			w := simulate(t, c.machine, c.traffic, window5)
			t.Logf("\njust-in-time     %v\ndelay 0          %v\ndelay 0, timeout %v\nwindow 5 ms      %v", j, d, u, w)
			if !c.check(j, d, u, w) {
				t.Error("the policies do not compare as they should")
			}
		})
	}
}
