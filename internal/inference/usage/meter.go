package usage

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// Window is how long a Meter sums up before it writes: what a crash loses at most,
// unless the store is away for longer.
const Window = 10 * time.Second

// most is how many sums a Meter keeps at once.
const most = 50_000

// Meter sums up what online requests use. It is safe for concurrent use.
type Meter struct {
	store *repo.Store
	name  string // of this run of the process
	log   *slog.Logger
	lost  prometheus.Counter

	mu   sync.Mutex
	open map[slot]*Amount

	flushing sync.Mutex       // guards what follows, also while it is written
	window   int              // counts the windows that were closed
	closed   map[slot]*Amount // sums of the last of them that may not be written yet
}

// slot is a tenant's hour of one thing.
type slot struct {
	tenant string
	hour   int64 // since 1970
	What
}

// MeterConfig is what a Meter may be given.
type MeterConfig struct {
	Metrics prometheus.Registerer // nil registers nowhere
	Log     *slog.Logger          // nil discards
}

// NewMeter returns a meter that writes to a store.
func NewMeter(store *repo.Store, cfg MeterConfig) (*Meter, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{store: store, name: repo.RandomName(), log: cfg.Log, open: map[slot]*Amount{}, lost: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_usage_lost_total", Help: "Online requests that are not counted as usage: too many different ones at once, while the store was away.",
	})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(m.lost); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return m, nil
}

// Count adds what a tenant has used at a time.
func (m *Meter) Count(tenant string, at time.Time, e Entry) {
	s := slot{tenant, at.Unix() / int64(time.Hour/time.Second), e.What}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.open[s]
	if a == nil {
		if len(m.open) >= most {
			m.lost.Add(float64(e.Requests))
			return
		}
		a = new(Amount)
		m.open[s] = a
	}
	a.Add(e.Amount)
}

// Run writes every Window until ctx ends. Flush what came later.
func (m *Meter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		pause.For(ctx, Window)
		if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "usage could not be written; it is written with the next", "error", err)
		}
	}
	return nil
}

// Flush closes the window and writes its sums, each under a name of its own. A sum that may
// or may not have been written is written again under the same name, before the next
// window is closed: the store counts each name once.
func (m *Meter) Flush(ctx context.Context) error {
	m.flushing.Lock()
	defer m.flushing.Unlock()
	if err := m.write(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.closed, m.open = m.open, map[slot]*Amount{}
	m.mu.Unlock()
	m.window++
	return m.write(ctx)
}

// write writes what is left of the closed window.
func (m *Meter) write(ctx context.Context) error {
	for s, a := range m.closed {
		at := time.Unix(s.hour*int64(time.Hour/time.Second), 0)
		name := m.name + "/" + strconv.Itoa(m.window) + "/" + string(idOf(at, s.What)) + "/" + s.tenant
		err := once(ctx, m.store, s.tenant, []string{name}, at, Entry{s.What, *a})
		if err != nil && !errors.Is(err, repo.ErrProcessed) {
			return err
		}
		delete(m.closed, s)
	}
	return nil
}
