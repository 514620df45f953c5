// Package follow has a node serve the versions that the registry says are ready.
//
// The store is asked at the start and, slowly, ever after; what this process
// commits and what the stream of events tells of has it asked at once. Small files
// of a version, and a graph, are fetched when it is learned of, so that it can be
// described; the model file when the first request wants it.
package follow

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/registry"
	"sluice/internal/inference/registry/cache"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/watch"
)

// Server serves what it is offered; see serve.Server.
type Server interface {
	Offer(ctx context.Context, name string, offers []serve.Offer) map[int64]error
}

// Config holds what a Follower may be given; the zero value has defaults.
type Config struct {
	// Poll is how often the store is asked, whatever the queue says; default 5s.
	Poll    time.Duration
	Verify  registry.Verify       // refuses versions by their signature; nil refuses none
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// Follower keeps what a node serves as the registry has it.
type Follower struct {
	store   *repo.Store
	watch   *watch.Watcher
	bucket  blob.Reader
	cache   *cache.Cache
	server  Server
	cfg     Config
	offered map[string]map[registry.ID]offered // by model
	since   prometheus.Gauge
	ready   prometheus.Gauge
}

// offered is what a version is offered as.
type offered struct {
	what string // tells it from others
	serve.Offer
}

// New returns the follower of a store. Call it before the store is used.
func New(store *repo.Store, q queue.Reader, bucket blob.Reader, c *cache.Cache, server Server, cfg Config) (*Follower, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{store: store, bucket: bucket, cache: c, server: server, cfg: cfg, offered: map[string]map[registry.ID]offered{},
		since: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_registry_read_timestamp_seconds", Help: "When the ready versions of the model registry were last read from the store: what this node serves of them is as old."}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_registry_offered_versions", Help: "Versions of the model registry that this node serves, loaded or not."}),
	}
	failed := prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_registry_read_failures_total", Help: "Readings of the model registry that failed, in whole or for a version; they are repeated."})
	f.watch = watch.New(store, q, watch.Config{Kinds: []string{registry.Versions.Name}, Read: f.Refresh, Failed: failed, Poll: cfg.Poll, Log: cfg.Log})
	if cfg.Metrics == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.since, f.ready, failed} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return f, nil
}

// Run follows the store until ctx ends. While the store does not answer, what was
// known before is served.
func (f *Follower) Run(ctx context.Context) error { return f.watch.Run(ctx) }

// Refresh reads the store once, and offers what has changed. A version that cannot
// be described keeps no other from being served, and is tried again. It is for one
// goroutine at a time.
func (f *Follower) Refresh(ctx context.Context) error {
	began := f.store.Now()
	served, err := registry.Served(ctx, f.store)
	if err != nil {
		return err
	}
	models := map[string][]registry.Version{}
	for _, v := range served {
		models[v.Model] = append(models[v.Model], v)
	}
	var errs []error
	for name := range f.offered {
		if models[name] == nil {
			f.server.Offer(ctx, name, nil)
			delete(f.offered, name)
		}
	}
	for name, versions := range models {
		errs = append(errs, f.offer(ctx, name, versions))
	}
	n := 0
	for _, of := range f.offered {
		n += len(of)
	}
	f.ready.Set(float64(n))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	f.since.Set(float64(began.UnixMicro()) / 1e6)
	return nil
}

// offer offers a model's versions, if they are others than before.
func (f *Follower) offer(ctx context.Context, name string, versions []registry.Version) error {
	before, now := f.offered[name], map[registry.ID]offered{}
	for i := range versions {
		now[versions[i].ID] = offered{what: versions[i].Digest + " " + versions[i].Main().Object} // one that was deleted and is back has other objects
	}
	if maps.EqualFunc(now, before, func(a, b offered) bool { return a.what == b.what }) {
		return nil
	}
	var offers []serve.Offer
	var errs []error
	for i := range versions {
		id := versions[i].ID
		o := now[id]
		if old := before[id]; old.what == o.what {
			o = old // that it cannot be described now, for another's sake, must not take it out of service
		} else {
			var err error
			if o.Offer, err = f.describe(ctx, &versions[i]); err != nil {
				errs = append(errs, fault.Wrap(fault.Of(err).Kind, err, "version %d of model %q: %s", versions[i].Number, name, fault.Of(err).Message))
				delete(now, id)
				continue
			}
		}
		now[id], offers = o, append(offers, o.Offer)
	}
	for number, err := range f.server.Offer(ctx, name, offers) {
		errs = append(errs, fault.Wrap(fault.Of(err).Kind, err, "version %d of model %q: %s", number, name, fault.Of(err).Message))
		delete(now, registry.IDOf(name, number))
	}
	f.offered[name] = now
	return errors.Join(errs...)
}

// describe makes an offer of a version.
func (f *Follower) describe(ctx context.Context, v *registry.Version) (serve.Offer, error) {
	file := v.Main()
	if file.Name == "" {
		return serve.Offer{}, fault.New(fault.Internal, "it has no model file")
	}
	sig, err := v.Signature()
	if err != nil {
		return serve.Offer{}, err
	}
	read := func(small registry.File) ([]byte, error) { return f.fetch(ctx, small) }
	if err := f.cfg.Verify.Files(v.Model, v.CreatedAt, v.Files, read); err != nil {
		return serve.Offer{}, err
	}
	o := serve.Offer{Number: v.Number, SHA256: v.SHA256, Bytes: file.Bytes, Signature: sig}
	if o.Config, err = registry.ReadConfig(v.Model, v.Files, read); err != nil {
		return o, err
	}
	if v.Graph() {
		o.Graph, err = read(file)
		return o, err
	}
	o.Read = func(ctx context.Context) ([]byte, error) { return f.fetch(ctx, file) }
	return o, nil
}

// fetch returns a file, from the disk where it is there.
func (f *Follower) fetch(ctx context.Context, file registry.File) ([]byte, error) {
	return f.cache.Get(ctx, file.SHA256, file.Bytes, func(ctx context.Context) (io.ReadCloser, error) {
		return registry.Open(ctx, f.bucket, file)
	})
}
