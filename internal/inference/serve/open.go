package serve

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/inference/onnx"
)

// source is a model file with how it is to be served.
type source struct {
	name   string
	number int64
	data   []byte
	config model.Config
	// agreed is what a graph has to take and give; nil for whatever follows from its models.
	agreed *model.Signature
}

// open makes the bytes of a model file a version that is ready to serve: it passes the gate,
// gets a signature, is tried in the sandbox, and gets a session that is warmed up.
// The caller owns the version's first reference.
func (s *Server) open(ctx context.Context, src source) (*Version, error) {
	file, err := onnx.Inspect(src.data, s.cfg.Limits)
	if err != nil {
		return nil, err
	}
	config, sig, err := model.Resolve(src.config, file.Signature, s.cfg.Defaults)
	if err != nil {
		return nil, err
	}
	v := &Version{
		Name: src.name, Number: src.number, Text: strconv.FormatInt(src.number, 10), SHA256: file.SHA256,
		Signature: config.Asked(sig), graph: &sig, Config: config, Batches: *config.MaxBatchSize > 0, MaxRows: *config.MaxBatchSize, Stats: new(Stats),
	}
	if v.logging, err = logging(v); err != nil {
		return nil, err
	}
	if err := s.checkFeatures(v); err != nil {
		return nil, err
	}
	if err := s.checkFallback(v); err != nil {
		return nil, err
	}
	spec := engine.Spec{
		Name: src.name, Data: src.data, Signature: v.graph,
		Batches: v.Batches, MaxRows: v.MaxRows, Execution: config.Execution,
	}
	report, err := s.cfg.Trial(ctx, spec, file.SHA256)
	if err != nil {
		return nil, err
	}
	v.CrossRequest, v.Invariance = report.Invariant && !config.NoBatching, report.Reason
	if !v.CrossRequest {
		v.Config.NoBatching = true
	}
	session, err := s.engine.Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := s.startVersion(ctx, v, session, spec); err != nil {
		_ = session.Close()
		return nil, err
	}
	return v, nil
}

// startVersion warms a session up and starts the version on it.
func (s *Server) startVersion(ctx context.Context, v *Version, session engine.Session, spec engine.Spec) error {
	executors := v.Config.Execution.Runs(s.cfg.CPU.Cores())
	cost := batcher.NewCost(max(v.MaxRows, 1), executors)
	if err := s.warmUp(ctx, v, session, spec, cost); err != nil {
		return err
	}
	s.reachSLO(ctx, v, cost.Estimate(1, 0))
	cfg := batcher.Config{
		MaxRows: max(v.MaxRows, 1), Executors: executors, SLO: v.Config.SLO,
		MaxQueue: s.cfg.MaxQueue, Cost: cost, Solo: !v.CrossRequest, Explicit: explicit(v.Config.Batching),
	}
	return v.start(session, cfg, s.metrics, s.cfg.Recorder)
}

// reachSLO raises an SLO that not even one row on an idle machine can meet: with it every
// request would be refused.
func (s *Server) reachSLO(ctx context.Context, v *Version, one time.Duration) {
	if v.Config.SLO >= 2*one {
		return
	}
	s.cfg.Log.WarnContext(ctx, "the model cannot meet its SLO; a longer one is used until its config says what is wanted",
		"model", v.Name, "version", v.Text, "slo", v.Config.SLO.String(), "one_row", one.String(), "used", (4 * one).String())
	v.Config.SLO = 4 * one
}

func explicit(b *model.Batching) *batcher.Explicit {
	if b == nil {
		return nil
	}
	return &batcher.Explicit{
		PreferredSizes: b.PreferredSizes, MaxQueueDelay: b.MaxQueueDelay, MaxQueueSize: b.MaxQueueSize,
		DefaultTimeout: b.DefaultTimeout, AllowTimeoutOverride: b.AllowTimeoutOverride, TimeoutDelay: b.TimeoutDelay,
		PriorityLevels: b.PriorityLevels, DefaultPriority: b.DefaultPriority, PreserveOrdering: b.PreserveOrdering,
	}
}

// warmBudget bounds the time that a model's warm-up sweep takes, so that the
// server is ready soon; sizes that do not fit are learned online.
const warmBudget = 60 * time.Millisecond

// warmUp runs the configured warm-up requests, then measures what batches of
// growing size cost, alone and beside a second run.
func (s *Server) warmUp(ctx context.Context, v *Version, session engine.Session, spec engine.Spec, cost *batcher.Cost) error {
	for _, w := range v.Config.Warmup {
		if err := probe.Warm(ctx, session, spec, w); err != nil {
			return fmt.Errorf("warm-up %q of model %q: %w", w.Name, v.Name, err)
		}
	}
	for _, p := range probe.Sweep(ctx, session, spec, warmBudget) {
		cost.Seed(p.Rows, p.Beside, p.Took)
	}
	return nil
}
