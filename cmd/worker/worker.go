package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/cmd/internal/batches"
	"sluice/cmd/internal/evaluations"
	"sluice/cmd/internal/exports"
	"sluice/cmd/internal/features"
	"sluice/cmd/internal/jobs"
	"sluice/cmd/internal/models"
	"sluice/cmd/internal/node"
	"sluice/cmd/internal/records"
	"sluice/cmd/internal/rollouts"
	versions "sluice/internal/inference/registry"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/config"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/spare"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/web"
)

// worker is the program as a value, so that tests run what production runs.
type worker struct {
	cfg         config.Config
	build       telemetry.Build
	log         *slog.Logger
	stdout      io.Writer
	health      *telemetry.Health
	tracing     *telemetry.Tracing
	node        *node.Node
	models      *models.Models      // nil where it runs no predictions
	rollouts    *rollouts.Rollouts  // as models
	follower    lifecycle.Component // of the ready versions of the registry
	records     *records.Records
	features    *features.Features // as models
	jobs        *jobs.Jobs
	batches     *batches.Batches
	exports     *exports.Exports
	evaluations *evaluations.Evaluations
	ops         *web.Server
	ready       func(*worker)
}

// newWorker builds every part; nothing listens or works before run.
func newWorker(ctx context.Context, cfg config.Config, p process) (_ *worker, err error) {
	w := &worker{cfg: cfg, build: telemetry.ReadBuild(), stdout: p.stdout, health: &telemetry.Health{}, ready: p.started}
	const service = "sluice-worker"
	if w.log, err = telemetry.NewLogger(p.stderr, telemetry.LogConfig{Level: cfg.Log.Level, Format: cfg.Log.Format, Service: service, Version: w.build.Version}); err != nil {
		return nil, err
	}
	registry := telemetry.NewRegistry(w.build)
	w.tracing, err = telemetry.NewTracing(ctx, telemetry.TraceConfig{
		Endpoint: cfg.Trace.Endpoint, SampleRatio: cfg.Trace.SampleRatio, Service: service, Version: w.build.Version,
	}, w.log)
	if err != nil {
		return nil, err
	}
	needs := rollouts.Need(node.Deps{Log: w.log, Metrics: registry, Tracing: w.tracing, Health: w.health, Schemas: versions.Schemas()})
	needs = jobs.Need(cfg, needs)
	needs = batches.Need(cfg, needs)
	needs = exports.Need(cfg, needs)
	needs = evaluations.Need(cfg, needs)
	needs = features.Need(needs)
	if w.node, err = node.Open(ctx, cfg, needs); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.records.Close(), w.features.Close(), w.node.Close(context.WithoutCancel(ctx)))
		}
	}()
	if w.records, err = records.Open(ctx, cfg, w.node.Pseudonym(), w.log, registry, w.health); err != nil {
		return nil, err
	}
	if err = w.open(ctx, registry); err != nil {
		return nil, err
	}
	c := cfg.HTTP
	w.ops, err = web.NewPlain(web.Config{
		Name: "ops", Addr: cfg.Ops.Addr, MaxBody: int64(c.MaxBody), MaxBodyKey: "http.max_body", MaxHeader: int(c.MaxHeader),
		MaxConnections: c.MaxConnections, MaxInFlight: c.MaxInFlight,
		ReadHeaderTimeout: c.ReadHeaderTimeout, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout, IdleTimeout: c.IdleTimeout,
		LoopbackOnly: !cfg.Authenticated(), Draining: w.health.Draining, Log: w.log, Metrics: registry, Tracing: w.tracing,
	}, telemetry.NewOps(w.health, registry, w.log, telemetry.OpsConfig{Profiles: telemetry.OnLoopback(cfg.Ops.Addr)}))
	return w, err
}

// open prepares to run predictions, on models where it is to run any.
func (w *worker) open(ctx context.Context, metrics prometheus.Registerer) error {
	memory, err := models.Memory(metrics, "http", w.cfg.HTTP.MaxHeld)
	if err != nil {
		return err
	}
	if w.cfg.Job.Concurrency > 0 {
		if w.features, err = features.Open(ctx, w.cfg, w.node.Store, w.log, metrics); err != nil {
			return err
		}
		if w.models, err = models.Open(ctx, w.cfg, w.log, metrics, w.health.Draining, nil, w.records.Recorder(), w.features.Source()); err != nil {
			return err
		}
		w.models.Server.HoldIn(memory)
		w.health.AddCheck("models", w.models.Check)
		if w.follower, err = w.models.Follow(w.cfg, w.node, metrics, w.log); err != nil {
			return err
		}
		if w.rollouts, err = rollouts.New(w.node, w.models, w.records.Store, metrics, w.log); err != nil {
			return err
		}
	}
	var predictor *batches.Predictor
	var served serve.Models
	var cpu *spare.Processors
	if w.models != nil {
		served, cpu = w.models.Public, w.models.CPU
		predictor = new(batches.NewPredictor(w.models.Public))
	}
	if w.batches, err = batches.New(w.cfg, w.node, predictor, cpu, metrics, w.log); err != nil {
		return err
	}
	if w.exports, err = exports.New(w.cfg, w.node, w.records.Store, metrics, w.log); err != nil {
		return err
	}
	if w.evaluations, err = evaluations.New(w.cfg, w.node, served, w.records.Store, nil, w.batches.Options, metrics, w.log); err != nil {
		return err
	}
	w.jobs, err = jobs.New(w.cfg, w.node, w.models, memory, nil, metrics, w.log)
	return err
}

// run works until ctx ends. What is on its way then is finished: a prediction that
// runs ends or is given back, a batch that the queue has taken is marked, an entry
// that was taken is logged.
func (w *worker) run(ctx context.Context) error {
	ops := w.ops.Component()
	ops.Drain = nil // probes and metrics are wanted until the end
	components := []lifecycle.Component{{Name: "traces", Stop: w.tracing.Stop}, ops}
	components = append(components, w.node.Components()...)
	components = append(components, w.records.Component())
	if w.features != nil {
		components = append(components, w.features.Component())
	}
	if w.models != nil {
		components = append(components, w.rollouts.Component(), w.follower, w.models.Component())
	}
	return lifecycle.Run(ctx, lifecycle.Config{
		Grace: w.cfg.Shutdown.Grace, Log: w.log, Started: w.started, Draining: w.health.SetDraining,
	}, append(components, w.jobs.Usage(), w.jobs.Component(), w.batches.Component(), w.exports.Component(), w.evaluations.Component())...)
}

// started tells the user, the probes and the tests.
func (w *worker) started() {
	w.health.SetStarted()
	serves := "none: job.concurrency is 0"
	if w.models != nil {
		serves = w.models.Summary()
	}
	fmt.Fprintf(w.stdout, "Sluice worker %s\n  ops     http://%s (/metrics /readyz /debug/pprof)\n  models  %s\n", w.build.Version, w.ops.Addr(), serves)
	if w.ready != nil {
		w.ready(w)
	}
}
