package serve

import (
	"context"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// TryGraph checks a graph against the models that are served, without serving it, and has it
// answer a golden run if there is one, as bulk work of its models. An error that is Invalid
// is about the graph, any other about its models.
func (s *Server) TryGraph(ctx context.Context, name string, number int64, file []byte, config model.Config, golden *probe.Golden) (probe.Report, error) {
	v, err := s.openGraph(source{name: name, number: number, data: file, config: config})
	if err != nil {
		return probe.Report{}, err
	}
	defer s.metrics.forget(v)
	report := probe.Report{Invariant: v.CrossRequest, Reason: v.Invariance}
	if golden == nil {
		return report, nil
	}
	t := &tried{server: s, version: v}
	err = golden.Run(ctx, t, engine.Spec{Name: name, Signature: v.graph, Batches: v.Batches, MaxRows: v.MaxRows})
	if t.failed != nil && fault.Of(t.failed).Kind != fault.Invalid {
		err = t.failed // a model that is overloaded now is no fault of the graph's
	}
	return report, err
}

// tried is a graph as an engine.Session.
type tried struct {
	server  *Server
	version *Version
	failed  error // of the last run
}

// Run implements engine.Session.
func (t *tried) Run(ctx context.Context, parts []*engine.Part) error {
	for _, p := range parts {
		if t.failed = t.one(ctx, p); t.failed != nil {
			return t.failed
		}
	}
	return nil
}

func (t *tried) one(ctx context.Context, p *engine.Part) error {
	c := newCall()
	defer c.free()
	c.inner, c.asker, c.request.Class, c.task.Deadline = true, asker{ctx: ctx}, batcher.Bulk, time.Time{}
	c.part.Inputs, c.part.Rows = append(c.part.Inputs, p.Inputs...), p.Rows
	if _, err := t.server.runGraph(ctx, t.version, c); err != nil {
		return err
	}
	p.Outputs = append(p.Outputs, c.part.Outputs...)
	p.Own() // the graph's memory goes with the call
	return nil
}

// Close implements engine.Session.
func (t *tried) Close() error { return nil }
