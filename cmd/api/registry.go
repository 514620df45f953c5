package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/internal/inference/job"
	"sluice/internal/inference/registry"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
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
		Taken: a.models.Taken, InUse: []registry.InUse{aliased, a.awaited}, Memory: memory, Log: a.log, Metrics: a.registry,
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.NewTrials(a.models.Try, a.models.Runtime(), a.node.Owner()), nil
}

// aliased says which alias names a version.
func aliased(ctx context.Context, from repo.Reading, model string, number int64) (string, error) {
	for query := (spec.Query[rollout.Alias]{Limit: spec.MaxLimit}); ; {
		page, err := rollout.Aliases.Find(ctx, from, query)
		if err != nil {
			return "", err
		}
		for i := range page.Items {
			if s := &page.Items[i].State; s.Exists && s.Model == model && s.Version == number {
				return "the alias " + s.Name + " names it", nil
			}
		}
		if query.After = page.Next; query.After == "" {
			return "", nil
		}
	}
}

// awaited says whether durable predictions have yet to be run by a version, of
// whatever tenant.
func (a *app) awaited(ctx context.Context, _ repo.Reading, model string, number int64) (string, error) {
	column := func(name string) spec.Column[job.Prediction] {
		return job.Predictions.Columns[slices.IndexFunc(job.Predictions.Columns, func(c spec.Column[job.Prediction]) bool { return c.Name() == name })]
	}
	waiting := spec.And(spec.Where(column("model"), spec.Eq, spec.TextValue(model)),
		spec.Where(column("status"), spec.In, spec.TextValue(string(job.Queued)), spec.TextValue(string(job.Running)), spec.TextValue(string(job.Cancelling))))
	for tenant, err := range a.node.Directory.Tenants(ctx) {
		if err != nil {
			return "", err
		}
		for p, err := range job.Predictions.All(ctx, a.node.Store.Read(repo.Scope{Tenant: tenant}), spec.Query[job.Prediction]{Where: waiting}) {
			if err != nil {
				return "", err
			}
			if p.Version == strconv.FormatInt(number, 10) {
				return "durable predictions that name it have not ended", nil
			}
		}
	}
	return "", nil
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
