package batcher

import (
	"context"
	"runtime"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// Batcher runs tasks in batches. It is safe for concurrent use.
type Batcher[T any] struct {
	run RunFunc[T]
	cfg Config

	mu      sync.Mutex
	queue   []*Task[T]
	running int
	stats   Stats
	drain   bool
	idle    chan struct{}
}

type ticket[T any] struct {
	wake    chan bool // true: lead
	timing  Timing
	arrived time.Time
	err     error
}

// New returns a batcher that runs batches with run.
func New[T any](run RunFunc[T], cfg Config) (*Batcher[T], error) {
	if cfg.MaxRows < 1 || cfg.SLO <= 0 {
		return nil, fault.New(fault.Invalid, "batcher: MaxRows and SLO must be positive")
	}
	if cfg.Executors <= 0 {
		cfg.Executors = runtime.GOMAXPROCS(0)
	}
	if cfg.MaxQueue <= 0 {
		cfg.MaxQueue = 4096
	}
	return &Batcher[T]{run: run, cfg: cfg, idle: make(chan struct{})}, nil
}

// Submit runs t in some batch and returns its outcome.
func (b *Batcher[T]) Submit(ctx context.Context, t *Task[T]) (Timing, error) {
	if t.wake == nil {
		t.wake = make(chan bool, 2)
	}
	t.Err, t.arrived = nil, time.Now()
	if t.Rows > b.cfg.MaxRows {
		return Timing{}, fault.New(fault.Invalid, "%d rows in one request, at most %d allowed", t.Rows, b.cfg.MaxRows)
	}
	b.mu.Lock()
	if b.drain {
		b.mu.Unlock()
		return Timing{}, fault.New(fault.Unavailable, "draining").WithCode("draining")
	}
	b.stats.Pending++
	b.queue = append(b.queue, t)
	if b.running == b.cfg.Executors {
		b.mu.Unlock()
		if lead := <-t.wake; !lead {
			return t.timing, t.err
		}
		b.mu.Lock()
	} else {
		b.running++
	}
	rows, n := 0, 0
	for n < len(b.queue) && b.queue[n].Bucket == b.queue[0].Bucket && (n == 0 || !b.cfg.Solo && rows+b.queue[n].Rows <= b.cfg.MaxRows) {
		rows += b.queue[n].Rows
		n++
	}
	batch := append([]*Task[T](nil), b.queue[:n]...)
	b.queue = b.queue[n:]
	b.mu.Unlock()
	start := time.Now()
	err := b.run(ctx, batch)
	d := time.Since(start)
	b.mu.Lock()
	if len(b.queue) > 0 {
		b.queue[0].wake <- true
	} else {
		b.running--
	}
	if b.stats.Pending -= n; b.stats.Pending == 0 && b.drain {
		close(b.idle)
	}
	b.mu.Unlock()
	own := false
	for _, m := range batch {
		m.timing = Timing{start.Sub(m.arrived), d, rows}
		if m.err = m.Err; m.err == nil {
			m.err = err
		}
		if own = own || m == t; m != t {
			m.wake <- false
		}
	}
	if !own {
		<-t.wake
	}
	return t.timing, t.err
}

// Drain refuses new tasks and waits until every accepted one has settled.
func (b *Batcher[T]) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.drain = true
	n := b.stats.Pending
	b.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-b.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stats returns a snapshot for metrics.
func (b *Batcher[T]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Queued, s.Running = len(b.queue), b.running
	return s
}
