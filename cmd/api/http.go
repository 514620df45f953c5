package main

import (
	"io"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"sluice/cmd/internal/batches"
	"sluice/cmd/internal/evaluations"
	"sluice/cmd/internal/exports"
	"sluice/cmd/internal/jobs"
	"sluice/cmd/internal/models"
	batchapi "sluice/internal/batch/api"
	"sluice/internal/batch/export/exporthttp"
	predictions "sluice/internal/inference/api"
	"sluice/internal/inference/evaluation/evaluationhttp"
	"sluice/internal/inference/feature/featurehttp"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/record/recordhttp"
	"sluice/internal/inference/registry/registryhttp"
	"sluice/internal/inference/rollout/rollouthttp"
	"sluice/internal/platform/admin"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/identity/password"
	"sluice/internal/platform/upload/uploadhttp"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/idempotency"
	"sluice/internal/platform/web/problem"
)

// native is where the native API is.
const native = "/v1"

// services builds what the APIs offer beside models that answer at once. What requests
// take there counts in memory.
func (a *app) services(memory *budget.Budget) (err error) {
	a.models.Server.HoldIn(memory)
	if a.backlog, err = newBacklog(a); err != nil {
		return err
	}
	if a.jobs, err = jobs.New(a.cfg, a.node, a.models, memory, a.backlog.Queued, a.registry, a.log); err != nil {
		return err
	}
	predictor := batches.NewPredictor(a.models.Public)
	if a.batches, err = batches.New(a.cfg, a.node, &predictor, a.models.CPU, a.registry, a.log); err != nil {
		return err
	}
	a.api = predictions.New(a.models.Public, memory, a.node.Store, a.node.Bus, a.jobs.Payloads, a.backlog, predictions.Config{
		MaxBody: int64(a.cfg.HTTP.MaxBody),
		Socket:  predictions.SocketConfig{MaxFrame: int64(min(a.cfg.HTTP.MaxBody, 4<<20)), Origins: a.cfg.HTTP.CORSOrigins, Take: a.gate.take},
		Live:    predictions.LiveConfig{Feeds: feedHandler(a)},
		Ward:    a.jobs.Ward,
		Uploads: a.uploaded,
		Overdue: a.jobs.Overdue, Feedback: a.records.Store != nil,
	})
	if a.uploads, err = newUploads(a, memory); err != nil {
		return err
	}
	if a.versions, a.trials, err = newRegistry(a, memory); err != nil {
		return err
	}
	a.rollouts.Service.Keeper, a.rollouts.Service.Graphs = a.versions, a.versions
	if a.exports, err = exports.New(a.cfg, a.node, a.records.Store, a.registry, a.log); err != nil {
		return err
	}
	if a.evaluations, err = evaluations.New(a.cfg, a.node, a.models.Public, a.records.Store, a.uploads, a.batches.Options, a.registry, a.log); err != nil {
		return err
	}
	a.rollouts.Service.Evaluations = a.evaluations
	return a.exports.Schedule(a.cfg, a.registry, a.log)
}

// newHTTP builds the public HTTP server: the Open Inference Protocol on raw
// handlers, and the native API beside it, behind one table of routes.
func newHTTP(a *app) (*web.Server, error) {
	cfg := a.webConfig("http", a.cfg.HTTP.Addr)
	catalog, err := newCatalog()
	if err != nil {
		return nil, err
	}
	cfg.ErrorHandler = api.ErrorHandler(catalog, []string{native}, oip.ErrorHandler)
	if len(a.cfg.HTTP.CORSOrigins) > 0 {
		cfg.CORS = &web.CORS{Origins: a.cfg.HTTP.CORSOrigins}
	}
	cfg.Routes = a.gate.routes()
	memory, err := models.Memory(a.registry, "http", a.cfg.HTTP.MaxHeld)
	if err != nil {
		return nil, err
	}
	if err := a.services(memory); err != nil {
		return nil, err
	}
	once := idempotency.New(a.node.Reservations(), idempotency.Config{
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Log: a.log, Key: a.node.FingerprintKey(),
	})
	return web.New(cfg, func(e *echo.Echo) {
		routes := cfg.Routes
		err := oip.Register(routes.On(e, oipPermission), a.models.Public, oip.Config{
			ServerName: "sluice", ServerVersion: a.build.Version,
			MaxBody: cfg.MaxBody, MaxBodyKey: cfg.MaxBodyKey, BodyTimeout: cfg.ReadTimeout, Memory: memory,
			Durable: a.api.Protocol(native), Once: once,
		})
		if err != nil {
			routes.Refuse(err)
		}
		public := routes.On(e, web.Always(web.Public))
		public.Add(http.MethodGet, "/", landing)
		if a.cfg.BenchNoop {
			public.Add(http.MethodPost, "/bench/noop", noop)
		}
		if err := a.nativeAPI(e, routes, catalog, once); err != nil {
			routes.Refuse(err)
		}
	})
}

// nativeAPI adds version 1 of the native API and its documentation.
func (a *app) nativeAPI(e *echo.Echo, routes *web.Routes, catalog *problem.Catalog, once *idempotency.Once) error {
	v1, err := api.New(e, routes, api.Config{
		Title: "Sluice", Version: "v1", Problems: catalog, Idempotency: once, Log: a.log,
		Description: "The native API of Sluice. Models are also served over the Open Inference Protocol, under /v2.",
	})
	if err != nil {
		return err
	}
	passwords, err := password.New(password.Config{})
	if err != nil {
		return err
	}
	admin.Admin{Directory: a.node.Directory, Catalog: a.node.Catalog, Roles: a.node.Roles, Passwords: passwords, Trail: a.node.Trail, Seals: a.node.Seals}.Register(v1, a.node.Bus)
	a.api.Register(v1)
	rollouthttp.Register(v1, a.node.Bus, a.rollouts.Service, a.rollouts.Evidence())
	uploadhttp.Register(v1, a.uploads)
	recordhttp.Register(v1, a.node.Bus, a.records.Store, a.rollouts.Ranges, a.records.Sync)
	featurehttp.Register(v1, a.node.Bus, a.features.Store)
	registryhttp.Register(v1, a.versions, a.uploads, a.rollouts.Aliases)
	batchapi.New(a.node.Bus, a.node.Store, a.node.Blobs, batches.NewPredictor(a.models.Public), a.uploads, a.batches.Forecasts, a.batches.Options, a.models.CPU).Register(v1)
	exporthttp.Register(v1, a.exports.Service)
	exporthttp.RegisterSchedules(v1, a.exports.Schedules)
	evaluationhttp.Register(v1, a.evaluations.Service, evaluations.CSV)
	addFeeds(e, routes, a)
	addStreams(e, routes, a)
	v1.Describe(plainRoutes()...)
	api.Docs(e, routes, "Sluice", catalog, v1)
	return nil
}

// landing tells a visitor what this is.
func landing(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, []byte(`{"name":"sluice","links":{"server":"/v2","live":"/v2/health/live","ready":"/v2/health/ready","api":"/v1/openapi.json","docs":"/docs"}}`+"\n"))
}

// noop is the floor that benchmarks compare with: it reads the whole body and
// answers a few bytes, through the same server and guard.
func noop(c echo.Context) error {
	if _, err := io.Copy(io.Discard, c.Request().Body); err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, noopAnswer)
}

var noopAnswer = []byte(`{"ok":true}` + "\n")
