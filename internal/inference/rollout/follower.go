package rollout

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/watch"
)

// Router routes requests by names.
type Router interface {
	// Name replaces all names, from the next request on.
	Name(names map[string]route.Names)
}

// FollowerConfig holds what a Follower may be given; the zero value has defaults.
type FollowerConfig struct {
	// Poll is how often the store is asked, whatever the queue says; default 5s.
	Poll    time.Duration
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// Follower keeps a node's routing as the store has it. What this process commits takes
// effect moments after the commit, and what others commit as soon as the queue tells of it,
// or within Poll.
type Follower struct {
	store   *repo.Store
	watch   *watch.Watcher
	router  Router
	tallies *Tallies
	splits  map[string]*split // by holder, of the last reading
	names   atomic.Pointer[map[string]route.Names]
	cfg     FollowerConfig
	since   prometheus.Gauge
	skipped prometheus.Counter
}

// NewFollower returns the follower of a store. Call it before the store is used.
func NewFollower(store *repo.Store, q queue.Reader, router Router, cfg FollowerConfig) (*Follower, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{store: store, router: router, tallies: newTallies(), cfg: cfg,
		since:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_rollout_read_timestamp_seconds", Help: "When aliases, experiments and releases were last read from the store: what this node routes by is as old."}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_rollout_skipped_total", Help: "Readings of an experiment or release that could not be understood; as it was before holds."}),
	}
	failed := prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_rollout_read_failures_total", Help: "Readings of aliases, experiments and releases that failed; what was known before holds."})
	f.watch = watch.New(store, q, watch.Config{Kinds: []string{Aliases.Name, Experiments.Name, release.Releases.Name}, Read: f.Refresh, Failed: failed, Poll: cfg.Poll, Log: cfg.Log})
	if cfg.Metrics == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.since, failed, f.skipped} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return f, nil
}

// Tallies returns what this node counts of experiments and releases.
func (f *Follower) Tallies() *Tallies { return f.tallies }

// Aliases returns the numbers of the versions that a model's aliases point to, as of the
// last reading.
func (f *Follower) Aliases(model string) map[string]int64 {
	all := map[string]int64{}
	if names := f.names.Load(); names != nil {
		for alias, of := range (*names)[model] {
			all[alias] = of.Version
		}
	}
	delete(all, "") // the same as the alias route.Default
	return all
}

// Run follows the store until ctx ends. While the store does not answer, what was
// known before holds.
func (f *Follower) Run(ctx context.Context) error { return f.watch.Run(ctx) }

// Refresh reads the store once, also before Run. It is not for several goroutines.
func (f *Follower) Refresh(ctx context.Context) error {
	now := f.store.Now()
	names, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.router.Name(names)
	f.names.Store(&names)
	f.since.Set(float64(now.UnixMicro()) / 1e6)
	return nil
}
