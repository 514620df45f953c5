package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	batch "sluice/internal/batch/job"
	"sluice/internal/inference/job"
	"sluice/internal/inference/registry"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// needRegistry adds to a node what the registry of models needs of it.
func needRegistry(d node.Deps) node.Deps {
	d.Permissions = append(d.Permissions, registry.Permissions()...)
	d.Schemas = append(d.Schemas, registry.Schemas()...)
	d.Expiring = append(d.Expiring, registry.Namings.Name)
	d.Objects = append(d.Objects, node.Objects{Folder: registry.Folder, Owned: registry.Owned})
	return d
}

func newRegistry(a *app, memory *budget.Budget) (*registry.Service, *registry.Trials, error) {
	s, err := registry.New(a.node.Store, a.node.Bus, a.node.Blobs, registry.Config{
		Limits: models.Limits(a.cfg), Defaults: models.Defaults(a.cfg), Retention: a.cfg.Registry.Retention,
		Taken: a.models.Taken, Graphs: a.models.Server, InUse: []registry.InUse{rollout.Uses, a.awaited}, Verify: a.models.Verify(), Memory: memory, Log: a.log, Metrics: a.registry,
	})
	if err != nil {
		return nil, nil, err
	}
	return s, s.NewTrials(a.models.Try, a.models.Runtime(), a.node.Owner()), nil
}

// awaited says why a version is still needed by durable predictions or batches of any
// tenant, "" where it is not.
func (a *app) awaited(ctx context.Context, _ repo.Reading, model string, number int64) (string, error) {
	version := strconv.FormatInt(number, 10)
	for tenant, err := range a.node.Directory.Tenants(ctx) {
		if err != nil {
			return "", err
		}
		from := a.node.Store.Read(repo.Scope{Tenant: tenant})
		if is, err := job.Awaits(ctx, from, model, version); err != nil || is {
			return "durable predictions that name it have not ended", err
		}
		if is, err := batch.Awaits(ctx, from, model, version); err != nil || is {
			return "batches that are run by it have not ended", err
		}
	}
	return "", nil
}

// purgeInterval is how often versions are looked for whose time to be restored is
// over.
const purgeInterval = time.Minute

// reconcileInterval is how often models are compared with their versions.
const reconcileInterval = time.Hour

// tend returns what removes deleted versions and, at the start and then once in each
// reconcileInterval, has models agree with their versions: an older process may have
// registered some.
func tend(s *registry.Service) func(context.Context) error {
	var due time.Time
	return func(ctx context.Context) error {
		_, err := s.Sweep(ctx)
		if now := time.Now(); now.After(due) {
			if failed := s.Reconcile(ctx); failed != nil {
				return errors.Join(err, failed)
			}
			due = now.Add(reconcileInterval)
		}
		return err
	}
}

// registryComponent tries what is registered, and tends what there is, the latter in one
// process at a time.
func registryComponent(a *app) lifecycle.Component {
	return lifecycle.Component{Name: "model registry", Run: func(ctx context.Context) error {
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.trials.Run(ctx) }) // it ends with ctx
		defer wg.Wait()
		for do := tend(a.versions); ctx.Err() == nil; pause.For(ctx, purgeInterval) {
			lease, err := a.node.Store.Acquire(ctx, "model-versions-sweep", a.node.Owner(), purgeInterval)
			if err == nil {
				err = lease.Hold(ctx, purgeInterval, do)
			}
			if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
				a.log.WarnContext(ctx, "the registry of models could not be tended", "error", err)
			}
		}
		return nil
	}}
}
