package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/inference/api"
	"sluice/internal/inference/batcher"
	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// jobs runs durable predictions in this process, and serves the native API of
// inference.
type jobs struct {
	api        *api.API
	worker     *job.Worker
	reconciler *job.Reconciler
}

func newJobs(a *app, memory *budget.Budget) *jobs {
	cfg := job.Config{}
	payloads := job.NewPayloads(a.node.Blobs)
	job.Register(a.node.Bus, cfg)
	return &jobs{
		api:        api.New(a.inference.models, memory, a.node.Store, a.node.Bus, payloads, api.Config{MaxBody: int64(a.cfg.HTTP.MaxBody)}),
		worker:     job.NewWorker(a.node.Store, predictor{a.inference.server, memory}, payloads, cfg, a.log),
		reconciler: job.NewReconciler(a.node.Store, cfg),
	}
}

// predictor has the models answer durable predictions: work that waits for spare
// rows of online requests' runs.
type predictor struct {
	models serve.Models
	memory *budget.Budget
}

// Predict implements job.Predictor.
func (p predictor) Predict(ctx context.Context, tenant, model, version string, input []byte) (job.Answer, error) {
	a, err := oip.Answer(ctx, p.models, p.memory, oip.Question{Model: model, Version: version, Body: input, Class: batcher.Bulk, Tenant: tenant})
	if err != nil {
		return job.Answer{}, err
	}
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return job.Answer{Output: a.Body, Version: a.Version, Digest: a.SHA256, BatchMS: millis(a.Timing.Queue), InferMS: millis(a.Timing.Infer), Rows: a.Timing.BatchRows}, nil
}

// How many durable predictions run at once in a process, and how often what is
// due is looked for.
const (
	jobConcurrency    = 64
	reconcileInterval = 10 * time.Second
)

// component takes work from the queue until the drain, and says again what is due.
func (j *jobs) component(a *app) lifecycle.Component {
	taking, drain := context.WithCancel(context.Background())
	done := make(chan struct{})
	return lifecycle.Component{
		Name: "jobs",
		Run: func(ctx context.Context) error {
			defer close(done)
			defer context.AfterFunc(ctx, drain)()
			var reconciling sync.WaitGroup
			reconciling.Go(func() { j.reconcile(taking, a) })
			defer reconciling.Wait()
			defer drain()
			return j.worker.Run(taking, a.node.Queue, jobConcurrency)
		},
		Drain: func(ctx context.Context) error {
			drain()
			select {
			case <-done:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
}

// reconcile says again what is due of every tenant, in one process at a time,
// until ctx ends.
func (j *jobs) reconcile(ctx context.Context, a *app) {
	for ctx.Err() == nil {
		lease, err := a.node.Store.Acquire(ctx, "predictions-reconcile", a.node.Owner(), reconcileInterval)
		if err == nil {
			err = lease.Hold(ctx, reconcileInterval, func(ctx context.Context) error { return j.rounds(ctx, a) })
		}
		if err != nil && !errors.Is(err, repo.ErrLeased) && ctx.Err() == nil {
			a.log.WarnContext(ctx, "due predictions could not be announced again", "error", err)
		}
		pause.For(ctx, reconcileInterval)
	}
}

// rounds looks after all tenants again and again.
func (j *jobs) rounds(ctx context.Context, a *app) error {
	for ctx.Err() == nil {
		for tenant, err := range a.node.Directory.Tenants(ctx) {
			n := 0
			if err == nil {
				n, err = j.reconciler.Tenant(ctx, tenant)
			}
			if n > 0 {
				a.log.InfoContext(ctx, "due predictions were announced again", "predictions", n)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		pause.For(ctx, reconcileInterval)
	}
	return nil
}
