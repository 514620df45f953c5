package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

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
	"sluice/internal/batch/export"
	batch "sluice/internal/batch/job"
	"sluice/internal/inference/api"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/feature/featurehttp"
	"sluice/internal/inference/job"
	"sluice/internal/inference/record/recordhttp"
	"sluice/internal/inference/registry"
	"sluice/internal/inference/rollout"
	metering "sluice/internal/inference/usage"
	"sluice/internal/platform/config"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/identity/secret"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/resilience"
	"sluice/internal/platform/telemetry"
	"sluice/internal/platform/upload"
	"sluice/internal/platform/web"
)

// app is the program as a value, so that tests run what production runs.
type app struct {
	cfg      config.Config
	build    telemetry.Build
	log      *slog.Logger
	stdout   io.Writer
	health   *telemetry.Health
	registry *prometheus.Registry
	tracing  *telemetry.Tracing
	shipper  *telemetry.Shipper // nil ships no log lines

	node        *node.Node
	gate        *gate
	records     *records.Records
	features    *features.Features
	models      *models.Models
	jobs        *jobs.Jobs
	rollouts    *rollouts.Rollouts
	batches     *batches.Batches
	backlog     *job.Backlog
	meter       *metering.Meter
	api         *api.API
	hub         *feed.Hub
	uploads     *upload.Service
	versions    *registry.Service
	trials      *registry.Trials
	follower    lifecycle.Component // of the ready versions
	exports     *exports.Exports
	evaluations *evaluations.Evaluations
	ops, http   *web.Server
	grpc        *grpcServer
	firstKey    string // the file with the API key that this start has made
	ready       func() // called once everything has started; tests set it
}

// newApp builds every part; nothing listens or loads models before Run, which also closes
// what is opened here.
func newApp(ctx context.Context, cfg config.Config, stdout, stderr io.Writer) (_ *app, err error) {
	a := &app{cfg: cfg, build: telemetry.ReadBuild(), stdout: stdout, health: &telemetry.Health{}}
	a.registry = telemetry.NewRegistry(a.build)
	if stderr, err = a.ship(stderr); err != nil {
		return nil, err
	}
	a.log, err = telemetry.NewLogger(stderr, telemetry.LogConfig{
		Level: cfg.Log.Level, Format: cfg.Log.Format, Service: "sluice", Version: a.build.Version,
	})
	if err != nil {
		return nil, err
	}
	a.tracing, err = telemetry.NewTracing(ctx, telemetry.TraceConfig{
		Endpoint: cfg.Trace.Endpoint, SampleRatio: cfg.Trace.SampleRatio, Service: "sluice", Version: a.build.Version,
	}, a.log)
	if err != nil {
		return nil, err
	}
	if a.node, err = node.Open(ctx, cfg, a.needs()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.records.Close(), a.features.Close(), a.node.Close(context.WithoutCancel(ctx)))
		}
	}()
	if a.gate, err = newGate(cfg, a.node, a.registry); err != nil {
		return nil, err
	}
	if a.meter, err = metering.NewMeter(a.node.Store, metering.MeterConfig{Metrics: a.registry, Log: a.log}); err != nil {
		return nil, err
	}
	if a.records, err = records.Open(ctx, cfg, a.node.Pseudonym(), a.log, a.registry, a.health); err != nil {
		return nil, err
	}
	if a.features, err = features.Open(ctx, cfg, a.node.Store, a.log, a.registry); err != nil {
		return nil, err
	}
	if a.models, err = models.Open(ctx, cfg, a.log, a.registry, a.health.Draining, counted(a.meter), a.records.Recorder(), a.features.Source()); err != nil {
		return nil, err
	}
	a.health.AddCheck("models", a.models.Check)
	if a.rollouts, err = rollouts.New(a.node, a.models, a.records.Store, a.registry, a.log); err != nil {
		return nil, err
	}
	if a.follower, err = a.models.Follow(cfg, a.node, a.registry, a.log); err != nil {
		return nil, err
	}
	if a.hub, err = newHub(a); err != nil {
		return nil, err
	}
	if a.ops, err = web.NewPlain(a.webConfig("ops", cfg.Ops.Addr), telemetry.NewOps(a.health, a.registry, a.log, telemetry.OpsConfig{Profiles: telemetry.OnLoopback(cfg.Ops.Addr)})); err != nil {
		return nil, err
	}
	if a.http, err = newHTTP(a); err != nil {
		return nil, err
	}
	a.grpc, err = newGRPC(a)
	return a, err
}

// needs is what the node has to have for all that runs on it.
func (a *app) needs() node.Deps {
	d := node.Deps{Log: a.log, Metrics: a.registry, Tracing: a.tracing, Health: a.health, EventLabels: eventLabels,
		Permissions: slices.Concat(modelPermissions(), api.Permissions(), eventPermissions(), rollout.Permissions(), recordhttp.Permissions(),
			batch.Permissions(), export.Permissions(), evaluation.Permissions(), featurehttp.Permissions())}
	d = evaluations.Need(a.cfg, d)
	d = needUploads(d)
	d = exports.Need(a.cfg, d)
	d = features.Need(d)
	d = needRegistry(d)
	d = rollouts.Need(d)
	d = jobs.Need(a.cfg, d)
	return batches.Need(a.cfg, d)
}

// ship returns a writer of log lines that sends them to Elasticsearch as well,
// where that is configured.
func (a *app) ship(w io.Writer) (io.Writer, error) {
	c := a.cfg.Log
	if c.Elasticsearch == "" {
		return w, nil
	}
	policy, err := resilience.New("elasticsearch", resilience.Config{Metrics: a.registry})
	if err != nil {
		return nil, err
	}
	a.shipper, err = telemetry.NewShipper(resilience.NewHTTPClient(policy, resilience.HTTPConfig{MaxResponse: 16 << 20}),
		telemetry.ShipConfig{URL: c.Elasticsearch, APIKey: secret.Of(c.ElasticsearchAPIKey), Run: repo.RandomName()}, a.registry)
	if err != nil {
		return nil, err
	}
	return io.MultiWriter(w, a.shipper), nil
}

// Run serves until ctx ends, and returns after the shutdown.
func (a *app) Run(ctx context.Context) error {
	return lifecycle.Run(ctx, lifecycle.Config{
		Notice: a.cfg.Shutdown.Notice, Grace: a.cfg.Shutdown.Grace, Log: a.log,
		Started: a.started, Draining: a.health.SetDraining,
	}, a.components()...)
}

// components are all parts in the order in which they start: each needs those before it
// until it has stopped itself.
func (a *app) components() []lifecycle.Component {
	ops := a.ops.Component()
	ops.Drain = nil // probes and metrics are wanted until the end
	first := lifecycle.Component{Name: "first key", Start: func(ctx context.Context) (err error) {
		a.firstKey, err = bootstrap(ctx, a.cfg, a.node)
		return err
	}}
	var all []lifecycle.Component
	if a.shipper != nil {
		all = append(all, lifecycle.Component{Name: "log shipping", Run: a.shipper.Run, Stop: a.shipper.Stop})
	}
	all = append(all, lifecycle.Component{Name: "traces", Stop: a.tracing.Stop}, ops)
	all = append(all, a.node.Components()...)
	all = append(all, first, meterComponent(a.meter), a.records.Component(), a.features.Component())
	all = append(all, a.rollouts.Component(), a.follower, a.models.Component())
	all = append(all, a.jobs.Usage(), a.jobs.Component(), a.batches.Component(), backlogComponent(a.backlog))
	all = append(all, feedComponent(a.hub), streamComponent(a))
	all = append(all, uploadComponent(a), a.exports.Component(), a.evaluations.Component(), registryComponent(a))
	return append(all, a.http.Component(), a.grpc.component()) // last, so that they stop first
}

// started tells the user, the probes and the tests.
func (a *app) started() {
	a.health.SetStarted()
	fmt.Fprint(a.stdout, a.summary())
	if a.ready != nil {
		a.ready()
	}
}

// webConfig is the part of an HTTP server's settings that the public and the
// operations listener share.
func (a *app) webConfig(name, addr string) web.Config {
	c := a.cfg.HTTP
	return web.Config{
		Name: name, Addr: addr,
		MaxBody: int64(c.MaxBody), MaxBodyKey: "http.max_body", MaxHeader: int(c.MaxHeader), MaxConnections: c.MaxConnections, MaxInFlight: c.MaxInFlight,
		ReadHeaderTimeout: c.ReadHeaderTimeout, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout, IdleTimeout: c.IdleTimeout,
		H2C: c.H2C, LoopbackOnly: !a.cfg.Authenticated(),
		Draining: a.health.Draining, Log: a.log, Metrics: a.registry, Tracing: a.tracing,
	}
}

// summary says where the server can be reached and what it serves.
func (a *app) summary() string {
	text := fmt.Sprintf("Sluice %s on %s\n  HTTP    http://%s\n  gRPC    %s\n  ops     http://%s (/metrics /readyz /debug/pprof)\n  API     http://%s/docs\n  models  %s\n",
		a.build.Version, a.models.Runtime(), a.http.Addr(), a.grpc.addr(), a.ops.Addr(), a.http.Addr(), a.models.Summary())
	if !a.cfg.Authenticated() {
		text += "  loopback only: no authentication configured\n"
	}
	if a.firstKey != "" {
		text += "  the first API key, which may do everything, is in " + a.firstKey + ": keep it elsewhere and remove the file\n"
	}
	return text
}
