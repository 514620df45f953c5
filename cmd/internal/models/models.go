// Package models is the model server that every process of the platform runs:
// engine, repository and sandbox, put together as the configuration says, and the
// memory that its requests share.
package models

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/ortengine/ortlib"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/modelrepo"
	"sluice/internal/inference/onnx"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/config"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/lifecycle"
	"sluice/internal/platform/spare"
)

// Models is the model server with its engine and repository.
type Models struct {
	// Public is the server as clients may use it, step by step where models work
	// so: what it serves they can change
	// only where that is configured, and it is not ready while the program shuts
	// down.
	Public *stream.Models
	// Server is the server as the program itself uses it.
	Server *serve.Server
	// CPU is what requests leave to work that nobody waits for.
	CPU *spare.Processors

	cfg     config.Model
	engine  engine.Engine
	repo    *modelrepo.Repo
	sandbox probe.Sandbox

	signatures *signatures // nil where none are asked for
}

// Used is told what online requests take; nil where nobody wants to know.
type Used func(ctx context.Context, v *serve.Version, at time.Time, u serve.Use)

// Open opens the runtime and the repository; it loads no model yet. The recorder
// and the features may be nil.
func Open(ctx context.Context, cfg config.Config, log *slog.Logger, metrics prometheus.Registerer, draining func() bool, used Used, recorder serve.Recorder, features serve.Features) (*Models, error) {
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
	signed, err := newSignatures(cfg.Model, log)
	if err != nil {
		return nil, err
	}
	var source serve.Repository = repo
	if signed != nil {
		source = signedRepo{repo, signed}
	}
	sandbox, err := newSandbox(library)
	if err != nil {
		return nil, err
	}
	limits := Limits(cfg)
	settings := serve.Config{
		Limits:   limits,
		Defaults: Defaults(cfg),
		MaxQueue: cfg.Model.MaxQueue,
		Trial:    newTrial(sandbox, probe.Cache{Dir: filepath.Join(cfg.DataDir, "probes"), Runtime: ort.Version(), Log: log}), Only: cfg.Models, DrainTimeout: cfg.Shutdown.Grace,
		LoadWait: cfg.Registry.Wait, Memory: demanded(cfg.Registry.Memory),
		Shadow: serve.ShadowConfig{Queue: cfg.Shadow.Queue, Memory: int64(cfg.Shadow.Memory), Wait: cfg.Shadow.Wait, Timeout: cfg.Shadow.Timeout},
		Used:   used, Recorder: recorder, Features: features, Log: log, Metrics: metrics, CPU: spare.New(),
	}
	if cfg.Model.Control == "poll" {
		settings.Poll = cfg.Model.PollInterval
	}
	server := serve.New(ort, source, settings)
	steps, err := stream.New(public{server, cfg.Model.Control, draining}, stream.Config{Metrics: metrics})
	if err != nil {
		return nil, err
	}
	return &Models{steps, server, settings.CPU, cfg.Model, ort, repo, sandbox, signed}, nil
}

// Limits are those of model files.
func Limits(cfg config.Config) onnx.Limits {
	l := onnx.DefaultLimits()
	l.MaxBytes = min(l.MaxBytes, int64(cfg.Model.MaxFile))
	return l
}

// Defaults are for what a model's configuration leaves open.
func Defaults(cfg config.Config) model.Defaults {
	return model.Defaults{MaxBatch: cfg.Model.MaxBatch, SLO: cfg.Model.SLO, QueueSize: cfg.Model.MaxQueue}
}

// Try tries a model in the sandbox, with a golden run where there is one.
func (m *Models) Try(ctx context.Context, spec engine.Spec, golden *probe.Golden) (probe.Report, error) {
	return m.sandbox.TryGolden(ctx, spec, golden)
}

// Taken says which numbers of a model the repository's folder has.
func (m *Models) Taken(ctx context.Context, name string) (func(int64) bool, error) {
	e, _ := m.repo.Find(ctx, name) // one that is broken may have numbers, too
	if ctx.Err() != nil {
		return nil, fault.Of(ctx.Err())
	}
	return func(number int64) bool {
		return slices.ContainsFunc(e.Versions, func(v modelrepo.Version) bool { return v.Number == number })
	}, nil
}

// Component returns the server as a part of a program, which loads the models
// when it starts.
func (m *Models) Component() lifecycle.Component {
	return lifecycle.Component{Name: "models", Start: m.start, Run: m.Server.Run, Stop: m.stop}
}

func (m *Models) stop(ctx context.Context) error {
	m.Public.Close()
	m.CPU.Close()
	return m.Server.Close(ctx)
}

func (m *Models) start(ctx context.Context) error {
	if err := m.Server.Start(ctx); err != nil {
		return err
	}
	if m.cfg.Strict {
		return reason(m.Server.Unready())
	}
	return nil
}

// Check is the readiness check: every configured model answers.
func (m *Models) Check(context.Context) error { return reason(m.Server.Unready()) }

// Runtime names the engine and its version.
func (m *Models) Runtime() string { return m.engine.Version() }

// Summary names the models in service, and what keeps others from it.
func (m *Models) Summary() string {
	text := strings.Join(m.Server.Names(), " ")
	if text == "" {
		text = "none in " + m.cfg.Repository
	}
	if why := m.Server.Unready(); why != "" {
		text += fmt.Sprintf("\n  not ready: %s", why)
	}
	return text
}

// reason turns a description of what is wrong into an error.
func reason(text string) error {
	if text == "" {
		return nil
	}
	return fault.New(fault.Unavailable, "%s", text).WithRetryAfter(time.Second)
}
