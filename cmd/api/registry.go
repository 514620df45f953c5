package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/internal/inference/registry"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// needRegistry adds to a node what the registry of models needs of it.
func needRegistry(d node.Deps) node.Deps {
	d.Permissions = append(d.Permissions, registry.Permissions()...)
	d.Schemas = append(d.Schemas, registry.Schemas()...)
	d.Objects = append(d.Objects, node.Objects{Folder: registry.Folder, Owned: registry.Owned})
	return d
}

func newRegistry(a *app, memory *budget.Budget) (*registry.Service, *registry.Trials, error) {
	s, err := registry.New(a.node.Store, a.node.Bus, a.node.Blobs, registry.Config{
		Limits: models.Limits(a.cfg), Defaults: models.Defaults(a.cfg), Retention: a.cfg.Registry.Retention,
		Taken: a.models.Taken, Memory: memory, Log: a.log, Metrics: a.registry,
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.NewTrials(a.models.Try, a.models.Runtime(), a.node.Owner()), nil
}

// purgeInterval is how often versions are looked for whose time to be restored is
// over.
const purgeInterval = time.Minute

// registryComponent tries what is registered, and removes what was deleted, the
// latter in one process at a time.
func registryComponent(a *app) lifecycle.Component {
	return lifecycle.Component{Name: "model registry", Run: func(ctx context.Context) error {
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.trials.Run(ctx) }) // it ends with ctx
		defer wg.Wait()
		for ctx.Err() == nil {
			pause.For(ctx, purgeInterval)
			lease, err := a.node.Store.Acquire(ctx, "model-versions-sweep", a.node.Owner(), purgeInterval)
			if err == nil {
				err = lease.Hold(ctx, purgeInterval, func(ctx context.Context) error { _, err := a.versions.Sweep(ctx); return err })
			}
			if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
				a.log.WarnContext(ctx, "deleted versions of models could not be removed", "error", err)
			}
		}
		return nil
	}}
}
