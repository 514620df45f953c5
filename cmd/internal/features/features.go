// Package features is a process's part in the feature store: where it is, and what
// models take of it.
package features

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/node"
	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/cqlfeature"
	"sluice/internal/inference/feature/sqlitefeature"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// Features is the store as a part of a program. Nil, or the zero value, has none.
type Features struct {
	Store feature.Store // nil where there is none

	fetcher *feature.Fetcher
	log     *slog.Logger
}

// Need adds to a node what views need of it.
func Need(d node.Deps) node.Deps {
	d.Schemas = append(d.Schemas, feature.Views.Schema())
	return d
}

// Open opens the store that the configuration names, for models that take features of
// these views. Close it where its component never
// runs.
func Open(ctx context.Context, cfg config.Config, views *repo.Store, log *slog.Logger, metrics prometheus.Registerer) (*Features, error) {
	f := &Features{log: log}
	store, err := open(ctx, address(cfg), log, metrics)
	if err != nil || store == nil {
		return f, err
	}
	if f.fetcher, err = feature.NewFetcher(store, views, metrics); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	f.Store = store
	return f, nil
}

// address is where the store is: by default in the node's folder, or, as a file on each node
// would be several stores, where all else is kept of a cluster.
func address(cfg config.Config) string {
	switch {
	case cfg.Features.URL != "":
		return cfg.Features.URL
	case strings.HasPrefix(cfg.Database.URL, "scylla:"):
		return cfg.Database.URL
	}
	return "sqlite:" + filepath.Join(cfg.DataDir, "features.db")
}

// open opens the store of an address, nil for none.
func open(ctx context.Context, address string, log *slog.Logger, metrics prometheus.Registerer) (feature.Store, error) {
	switch {
	case address == "none":
		return nil, nil
	case strings.HasPrefix(address, "scylla:"):
		return opened(cqlfeature.Open(ctx, address, cqlfeature.Config{Logger: log, Metrics: metrics}))
	}
	return opened(sqlitefeature.Open(ctx, address))
}

// opened keeps a nil of a type from becoming a store.
func opened[S feature.Store](s S, err error) (feature.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Source returns what gives models their features; nil where there is no store.
func (f *Features) Source() serve.Features {
	if f == nil || f.fetcher == nil {
		return nil
	}
	return f.fetcher
}

// Close gives the store back.
func (f *Features) Close() error {
	if f == nil || f.Store == nil {
		return nil
	}
	return f.Store.Close()
}

// Component forgets what is old. It ends after those who predict.
func (f *Features) Component() lifecycle.Component {
	c := lifecycle.Component{Name: "features"}
	if f.Store != nil {
		c.Run, c.Stop = f.run, func(context.Context) error { return f.Close() }
	}
	return c
}

// expireInterval is how often what is old is looked for.
const expireInterval = 10 * time.Minute

func (f *Features) run(ctx context.Context) error {
	for pause.For(ctx, expireInterval) {
		if err := f.Store.Expire(ctx, time.Now()); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "old rows of the feature store could not be removed", "error", err)
		}
	}
	return nil
}
