package models

import (
	"context"
	"io"
	"os"

	"sluice/internal/inference/engine"
	"sluice/internal/inference/engine/ortengine"
	"sluice/internal/inference/engine/probe"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/fault"
)

// ProbeCommand makes this program try one model file and exit: the server
// runs itself as a sandboxed child process before it loads a file.
const ProbeCommand = "probe-model"

// newSandbox returns where model files are tried: in a child process.
func newSandbox(library string) (probe.Sandbox, error) {
	self, err := os.Executable()
	if err != nil {
		return probe.Sandbox{}, fault.Wrap(fault.Internal, err, "the program's own file, which the sandbox runs, cannot be found")
	}
	return probe.Sandbox{Command: []string{self, ProbeCommand, library}}, nil
}

// newTrial returns how a new model file is tried: once for each file and runtime.
func newTrial(sandbox probe.Sandbox, cache probe.Cache) serve.TrialFunc {
	return func(ctx context.Context, spec engine.Spec, sha256 string) (probe.Report, error) {
		return cache.Get(ctx, spec, sha256, sandbox.Try)
	}
}

// Probe is the child: api probe-model <library>, with the model on its standard
// input. Every program that opens models has that command.
func Probe(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "%s takes the path of the runtime library, got %d arguments", ProbeCommand, len(args))
	}
	return probe.Child(ctx, stdin, stdout, func() (engine.Engine, error) { return ortengine.Open(args[0]) })
}
