// Package follow has a node serve the versions that the registry says are ready.
//
// The store is asked at the start and, slowly, ever after; what this process
// commits and what the stream of events tells of has it asked at once. Small files
// of a version are fetched when it is learned of, so that it can be described; the
// model file when the first request wants it.
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
	"sluice/internal/platform/pause"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/repo"
)

// Server serves what it is offered; see serve.Server.
type Server interface {
	Offer(ctx context.Context, name string, offers []serve.Offer) map[int64]error
}

// Config holds what a Follower may be given; the zero value has defaults.
type Config struct {
	// Poll is how often the store is asked, whatever the queue says; default 5s.
	Poll    time.Duration
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

// Follower keeps what a node serves as the registry has it.
type Follower struct {
	store   *repo.Store
	queue   queue.Reader
	bucket  blob.Reader
	cache   *cache.Cache
	server  Server
	cfg     Config
	changed chan struct{}                     // has a token where the store may have something new
	offered map[string]map[registry.ID]string // by model: what tells the versions that are offered from others
	since   prometheus.Gauge
	ready   prometheus.Gauge
	failed  prometheus.Counter
}

// New returns the follower of a store. Call it before the store is used.
func New(store *repo.Store, q queue.Reader, bucket blob.Reader, c *cache.Cache, server Server, cfg Config) (*Follower, error) {
	if cfg.Poll <= 0 {
		cfg.Poll = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{store: store, queue: q, bucket: bucket, cache: c, server: server, cfg: cfg, changed: make(chan struct{}, 1), offered: map[string]map[registry.ID]string{},
		since:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_registry_read_timestamp_seconds", Help: "When the ready versions of the model registry were last read from the store: what this node serves of them is as old."}),
		ready:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_registry_offered_versions", Help: "Versions of the model registry that this node serves, loaded or not."}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_registry_read_failures_total", Help: "Readings of the model registry that failed, in whole or for a version; they are repeated."}),
	}
	store.Watch(func(c *repo.Changeset) {
		for i := range c.Puts {
			if c.Puts[i].Kind == registry.Versions.Name {
				f.wake()
				return
			}
		}
	})
	if cfg.Metrics == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.since, f.ready, f.failed} {
		if err := cfg.Metrics.Register(c); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return f, nil
}

func (f *Follower) wake() {
	select {
	case f.changed <- struct{}{}:
	default: // whoever takes the token reads what is there then
	}
}

// Run follows the store until ctx ends. While the store does not answer, what was
// known before is served.
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
			f.cfg.Log.WarnContext(ctx, "versions of the model registry cannot be read; that is tried again", "error", err)
		}
	}
}

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
	now := map[registry.ID]string{}
	for i := range versions {
		file, _ := versions[i].File(registry.ModelFile)
		now[versions[i].ID] = versions[i].Digest + " " + file.Object // one that was deleted and is back has other objects
	}
	if maps.Equal(now, f.offered[name]) {
		return nil
	}
	var offers []serve.Offer
	var errs []error
	for i := range versions {
		o, err := f.describe(ctx, &versions[i])
		if err != nil {
			errs = append(errs, fault.Wrap(fault.Of(err).Kind, err, "version %d of model %q: %s", versions[i].Number, name, fault.Of(err).Message))
			delete(now, versions[i].ID)
			continue
		}
		offers = append(offers, o)
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
	file, ok := v.File(registry.ModelFile)
	if !ok {
		return serve.Offer{}, fault.New(fault.Internal, "it has no model file")
	}
	sig, err := v.Signature()
	if err != nil {
		return serve.Offer{}, err
	}
	config, err := registry.ReadConfig(v.Model, v.Files, func(small registry.File) ([]byte, error) { return f.fetch(ctx, small) })
	return serve.Offer{Number: v.Number, SHA256: v.SHA256, Bytes: file.Bytes, Config: config, Signature: sig,
		Read: func(ctx context.Context) ([]byte, error) { return f.fetch(ctx, file) }}, err
}

// fetch returns a file, from the disk where it is there.
func (f *Follower) fetch(ctx context.Context, file registry.File) ([]byte, error) {
	return f.cache.Get(ctx, file.SHA256, file.Bytes, func(ctx context.Context) (io.ReadCloser, error) {
		return registry.Open(ctx, f.bucket, file)
	})
}

// listenPause is for how long a queue that cannot be read is left alone.
const listenPause = time.Second

// listen wakes the follower at what others have changed, until ctx ends.
func (f *Follower) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.hear(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Log.WarnContext(ctx, "the queue cannot be read; what other nodes do in the model registry is seen when the store is next asked", "error", err)
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
	subject := repo.StreamEvents + "._." + registry.Versions.Name + ".*"
	for _, err := range f.queue.Read(ctx, queue.Read{Stream: stream, Filters: []string{subject}, From: b.Last + 1, Follow: true}) {
		if err != nil {
			return err
		}
		f.wake()
	}
	return errors.New("the stream of events has ended")
}
