package rollout

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Router routes requests by names, from the next one on.
type Router interface {
	Name(names map[string]route.Names)
}

// FollowerConfig holds what a Follower may be given; the zero value has defaults.
type FollowerConfig struct {
	// Poll is how often the store is asked, whatever the queue says; default 5s.
	Poll    time.Duration
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// Follower keeps a node's routing as the store has it. What this process commits
// is in effect within moments, not before the commit returns, and what others do when the queue tells of it; should the
// queue not, within Poll.
type Follower struct {
	store   *repo.Store
	queue   queue.Reader
	router  Router
	tallies *Tallies
	splits  map[string]*split // by holder, of the last reading
	cfg     FollowerConfig
	changed chan struct{} // has a token where the store may have something new
	since   prometheus.Gauge
	failed  prometheus.Counter
	skipped prometheus.Counter
}

// NewFollower returns the follower of a store. Call it before the store is used.
func NewFollower(store *repo.Store, q queue.Reader, router Router, cfg FollowerConfig) (*Follower, error) {
	if cfg.Poll <= 0 {
		cfg.Poll = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{store: store, queue: q, router: router, tallies: newTallies(), cfg: cfg, changed: make(chan struct{}, 1),
		since:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_rollout_read_timestamp_seconds", Help: "When aliases, experiments and releases were last read from the store: what this node routes by is as old."}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_rollout_read_failures_total", Help: "Readings of aliases, experiments and releases that failed; what was known before holds."}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_rollout_skipped_total", Help: "Readings of an experiment or release that could not be understood; as it was before holds."}),
	}
	store.Watch(f.committed)
	if cfg.Metrics == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.since, f.failed, f.skipped} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return f, nil
}

// followed are the kinds of which the routing is made.
var followed = []string{Aliases.Name, Experiments.Name, release.Releases.Name}

// Tallies returns what this node counts of releases.
func (f *Follower) Tallies() *Tallies { return f.tallies }

// committed notes that this process has changed something.
func (f *Follower) committed(c *repo.Changeset) {
	for i := range c.Puts {
		if slices.Contains(followed, c.Puts[i].Kind) {
			f.wake()
			return
		}
	}
}

func (f *Follower) wake() {
	select {
	case f.changed <- struct{}{}:
	default: // whoever takes the token reads what is there then
	}
}

// Run follows the store until ctx ends. While the store does not answer, what was
// known before holds.
func (f *Follower) Run(ctx context.Context) error {
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		f.listen(ctx)
	}()
	defer func() { <-listening }()
	poll := time.NewTicker(f.cfg.Poll)
	defer poll.Stop()
	for {
		select {
		case <-f.changed:
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
		if err := f.Refresh(ctx); err != nil && ctx.Err() == nil {
			f.failed.Inc()
			f.cfg.Log.WarnContext(ctx, "aliases cannot be read; what was known before holds", "error", err)
		}
	}
}

// Refresh reads the store once, also before Run. It is not for several goroutines.
func (f *Follower) Refresh(ctx context.Context) error {
	now := f.store.Now()
	names, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.router.Name(names)
	f.since.Set(float64(now.UnixMicro()) / 1e6)
	return nil
}

// listenPause is for how long a queue that cannot be read is left alone.
const listenPause = time.Second

// listen wakes the follower at what others have changed, until ctx ends.
func (f *Follower) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.hear(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Log.WarnContext(ctx, "the queue cannot be read; changes of aliases by other nodes are in effect when the store is next asked", "error", err)
		}
		f.wake() // something may have been missed
		pause.For(ctx, listenPause)
	}
}

// hear reads events from now on.
func (f *Follower) hear(ctx context.Context) error {
	const stream = "EVENTS"
	b, err := f.queue.Bounds(ctx, stream)
	if err != nil {
		return err
	}
	f.wake() // what came before is in the store
	var subjects []string
	for _, kind := range followed {
		subjects = append(subjects, repo.StreamEvents+"._."+kind+".*")
	}
	for _, err := range f.queue.Read(ctx, queue.Read{Stream: stream, Filters: subjects, From: b.Last + 1, Follow: true}) {
		if err != nil {
			return err
		}
		f.wake()
	}
	return errors.New("the stream of events has ended")
}
