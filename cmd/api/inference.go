package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
)

// inference is the model server with its engine and repository.
type inference struct {
	cfg    config.Model
	engine engine.Engine
	server *serve.Server
	models serve.Models // the server, as the edges may use it
}

// newInference opens the runtime and the repository; it loads no model yet.
func newInference(ctx context.Context, cfg config.Config, log *slog.Logger, metrics prometheus.Registerer, draining func() bool) (*inference, error) {
	library, err := ortlib.Locate(ctx, ortlib.Config{Path: cfg.ONNXRuntime, Logger: log})
	if err != nil {
		return nil, err
	}
	ort, err := ortengine.Open(library)
	if err != nil {
		return nil, err
	}
	repo, err := modelrepo.Open(cfg.Model.Repository, modelrepo.Limits{ModelBytes: int64(cfg.Model.MaxFile)})
	if err != nil {
		return nil, err
	}
	trial, err := newTrial(library, probe.Cache{Dir: filepath.Join(cfg.DataDir, "probes"), Runtime: ort.Version(), Log: log})
	if err != nil {
		return nil, err
	}
	limits := onnx.DefaultLimits()
	limits.MaxBytes = min(limits.MaxBytes, int64(cfg.Model.MaxFile))
	settings := serve.Config{
		Limits:   limits,
		Defaults: model.Defaults{MaxBatch: cfg.Model.MaxBatch, SLO: cfg.Model.SLO, QueueSize: cfg.Model.MaxQueue},
		MaxQueue: cfg.Model.MaxQueue,
		Trial:    trial, Only: cfg.Models, DrainTimeout: cfg.Shutdown.Grace,
		Log: log, Metrics: metrics,
	}
	if cfg.Model.Control == "poll" {
		settings.Poll = cfg.Model.PollInterval
	}
	server := serve.New(ort, repo, settings)
	return &inference{cfg.Model, ort, server, public{server, cfg.Model.Control, draining}}, nil
}

func (i *inference) component() lifecycle.Component {
	return lifecycle.Component{Name: "models", Start: i.start, Run: i.server.Run, Stop: i.server.Close}
}

func (i *inference) start(ctx context.Context) error {
	if err := i.server.Start(ctx); err != nil {
		return err
	}
	if i.cfg.Strict {
		return reason(i.server.Unready())
	}
	return nil
}

// check is the readiness check: every configured model answers.
func (i *inference) check(context.Context) error { return reason(i.server.Unready()) }

func (i *inference) runtime() string { return i.engine.Version() }

// summary names the models in service, and what keeps others from it.
func (i *inference) summary() string {
	text := strings.Join(i.server.Names(), " ")
	if text == "" {
		text = "none in " + i.cfg.Repository
	}
	if why := i.server.Unready(); why != "" {
		text += fmt.Sprintf("\n  not ready: %s", why)
	}
	return text
}

// public is the model server as clients may use it: they can change what it
// serves only where that is configured, and it is not ready while the program
// shuts down.
type public struct {
	*serve.Server
	control  string
	draining func() bool
}

// Ready implements serve.Models.
func (p public) Ready() bool { return !p.draining() && p.Server.Ready() }

// Load implements serve.Models.
func (p public) Load(ctx context.Context, name string, opts serve.LoadOptions) error {
	if err := p.allowed(); err != nil {
		return err
	}
	return p.Server.Load(ctx, name, opts)
}

// Unload implements serve.Models.
func (p public) Unload(ctx context.Context, name string) error {
	if err := p.allowed(); err != nil {
		return err
	}
	return p.Server.Unload(ctx, name)
}

func (p public) allowed() error {
	if p.control == "explicit" {
		return nil
	}
	return fault.New(fault.Unsupported, "explicit model load / unload is not allowed with model.control=%s; start the server with model.control=explicit", p.control)
}
