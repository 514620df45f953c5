package main

import (
	"context"
	"os"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// probeCommand makes this program try one model file and exit: the server
// runs itself as a sandboxed child process before it loads a file.
const probeCommand = "probe-model"

// newTrial returns how a new model file is tried: in a child process, once for
// each file and runtime.
func newTrial(library string, cache probe.Cache) (serve.TrialFunc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the program's own file, which the sandbox runs, cannot be found")
	}
	sandbox := probe.Sandbox{Command: []string{self, probeCommand, library}}
	return func(ctx context.Context, spec engine.Spec, sha256 string) (probe.Report, error) {
		return cache.Get(ctx, spec, sha256, sandbox.Try)
	}, nil
}

// probeModel is the child: api probe-model <library>, with the model on its
// standard input.
func probeModel(ctx context.Context, p process) error {
	if len(p.args) != 1 {
		return fault.New(fault.Invalid, "%s takes the path of the runtime library, got %d arguments", probeCommand, len(p.args))
	}
	return probe.Child(ctx, p.stdin, p.stdout, func() (engine.Engine, error) { return ortengine.Open(p.args[0]) })
}
