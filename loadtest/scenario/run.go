package scenario

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/loadtest/load"
	"sluice/loadtest/machine"
)

// Options say what a scenario runs against.
type Options struct {
	// HTTP and GRPC are the loopback addresses of a server that is there; without
	// them one is started from Binary.
	HTTP, GRPC, Key string
	Binary          string
	Folder          string                   // for models, data and logs
	ModelDir        func(name string) string // where a model is
	Log             io.Writer                // of what happens; nil keeps none
	Seed            uint64
	Capacity        float64 // replaces the measured capacity, which is measured all the same since that warms the server
}

// run is one run of a scenario.
type run struct {
	s        *Scenario
	options  Options
	world    *world
	capacity float64
	series   map[string]*Series
	lag      map[string]*load.Histogram
	memory   memory
	mu       sync.Mutex
	acted    int
	cpu      time.Duration
	began    time.Time
}

// Run runs a scenario and reports what it saw. It fails where the run could not be
// made; assertions that do not hold are in the report.
func Run(ctx context.Context, s *Scenario, o Options) (report *Report, err error) {
	if err := s.Fits(o); err != nil {
		return nil, err
	}
	r := &run{s: s, options: o, series: map[string]*Series{}, lag: map[string]*load.Histogram{}}
	if r.world, err = start(ctx, s, o); err != nil {
		return nil, err
	}
	defer func() { err = r.world.stopAfter(ctx, err) }()
	witness := machine.Watch(func() time.Duration { return r.world.cpu() })
	if err := r.measure(ctx); err != nil {
		return nil, err
	}
	if err := s.checkLoad(r.capacity); err != nil {
		return nil, err
	}
	if err := r.drive(ctx); err != nil {
		return nil, err
	}
	return r.report(witness.Others()), nil
}

// measure measures the capacity.
func (r *run) measure(ctx context.Context) error {
	c := r.s.Capacity
	if c == nil {
		return nil
	}
	t, err := r.world.prepare(ctx, r.s.traffic(c.Of), c.Connections)
	if err != nil {
		return err
	}
	defer t.pool.Close()
	l := t.load
	l.Backoff, l.Retries = 20*time.Millisecond, 0
	t.pool.Closed(ctx, l, c.For/4) // warm
	seen := t.pool.Closed(ctx, l, c.For)
	if seen.OK == 0 || seen.Failed > 0 {
		return fmt.Errorf("capacity: %d answered, %d failed: %w", seen.OK, seen.Failed, seen.Err)
	}
	r.capacity = seen.Rate()
	if r.options.Capacity > 0 {
		r.capacity = r.options.Capacity
	}
	r.log("capacity: %.0f requests/s over %d connections, p50 %.2f ms", seen.Rate(), c.Connections, millis(seen.Latency.Quantile(.5)))
	return nil
}

// drive sends all traffic through all phases, has the actions done, and watches
// memory meanwhile.
func (r *run) drive(ctx context.Context) error {
	var all []*traffic
	defer func() {
		for _, t := range all {
			t.pool.Close()
		}
	}()
	for i := range r.s.Traffic {
		t, err := r.world.prepare(ctx, &r.s.Traffic[i], r.s.Traffic[i].Connections)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	r.began = time.Now()
	for i := range r.s.Traffic {
		r.series[r.s.Traffic[i].Name] = newSeries(r.s, &r.s.Traffic[i], r.began)
	}
	r.memory = memory{begin: r.began}
	for i, p := range r.s.Phases {
		r.memory.ends = append(r.memory.ends, r.s.begins(i)+p.For)
	}
	cpu := r.world.cpu()

	aside, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	watchers.Go(func() { r.memory.watch(aside, r.world) })
	for i := range r.world.nodes {
		if len(r.world.nodes) > 1 {
			watchers.Go(func() { r.world.watch(aside, i) })
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	for i, t := range all {
		work.Go(func() error { return r.send(ctx, t, uint64(i)) })
	}
	for _, a := range r.s.Actions {
		work.Go(func() error {
			limited, cancel := context.WithDeadline(ctx, r.began.Add(r.s.length()+30*time.Second))
			defer cancel()
			err := r.act(limited, a, r.began)
			if err == nil {
				r.mu.Lock()
				r.acted++
				r.mu.Unlock()
			}
			return err
		})
	}
	err := work.Wait()
	r.cpu = r.world.cpu() - cpu
	return err
}

func (r *run) send(ctx context.Context, t *traffic, seed uint64) error {
	series, length := r.series[t.Name], r.s.length()
	t.load.Seen = series.record
	seen, err := t.pool.Open(ctx, t.load, r.s.arrivals(t.Traffic, r.capacity, r.options.Seed+seed), length)
	if err != nil {
		return fmt.Errorf("traffic %s: %w", t.Name, err)
	}
	r.mu.Lock()
	r.lag[t.Name] = seen.Lag
	r.mu.Unlock()
	return nil
}

func (r *run) log(format string, args ...any) {
	if r.options.Log == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := ""
	if !r.began.IsZero() {
		at = fmt.Sprintf("%5.1f s: ", time.Since(r.began).Seconds())
	}
	fmt.Fprintf(r.options.Log, "  "+at+format+"\n", args...)
}
