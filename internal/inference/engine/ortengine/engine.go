// Package ortengine runs models on ONNX Runtime, in process. It is the only
// importer of the runtime's Go wrapper.
//
// A session keeps a few run slots. A slot owns, for every input and output of
// fixed-size elements, a block of C memory and the runtime's value objects
// over it, one for each batch size that was seen. A run therefore copies its
// callers' rows into the slot, calls the runtime once and copies the answers
// out: no value is made, and no Go memory is handed to C beyond a call.
//
// Known limits: scalar (rank 0) inputs and half-precision outputs whose shape
// does not follow from the inputs are refused at Open, because the wrapper
// cannot carry them.
package ortengine

import (
	"context"
	"fmt"
	"os"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"sluice/internal/inference/engine"
	"sluice/internal/platform/fault"
)

// The runtime's environment is a process-wide singleton: it is opened once and
// never closed, since sessions may outlive any one owner.
var env struct {
	sync.Mutex
	library string
	version string
}

// Engine opens sessions on the process's ONNX Runtime.
type Engine struct{ version string }

// Open loads the runtime's shared library. A process can load one library
// only: opening another path later is an error.
func Open(library string) (*Engine, error) {
	env.Lock()
	defer env.Unlock()
	if env.library == "" {
		if err := initialise(library); err != nil {
			return nil, err
		}
	}
	if env.library != library {
		return nil, fault.New(fault.Conflict, "ONNX Runtime is already loaded from %s; one process cannot load a second from %s", env.library, library)
	}
	return &Engine{version: env.version}, nil
}

func initialise(library string) error {
	// Since 1.29 the runtime's official builds send telemetry to their maker,
	// and write an identifier of the device to the user's cache, unless this is
	// set before the environment is made: turning it off later is too late.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return fault.Wrap(fault.Internal, err, "cannot turn off ONNX Runtime's telemetry")
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "cannot load ONNX Runtime from %s", library)
	}
	if err := loadStringAPI(library); err != nil {
		return err
	}
	if err := containDivision(library); err != nil {
		return err
	}
	env.library, env.version = library, ort.GetVersion()
	return nil
}

// Version returns "onnxruntime" and the library's version.
func (e *Engine) Version() string { return "onnxruntime " + e.version }

// Open creates a session for a model that has passed the gate. Its errors name
// the model and what the runtime or the wrapper does not accept.
func (e *Engine) Open(ctx context.Context, spec engine.Spec) (engine.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkPorts(spec); err != nil {
		return nil, err
	}
	options, err := sessionOptions(spec.Execution)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", spec.Name, err)
	}
	defer func() { _ = options.Destroy() }()

	inputs, outputs := names(spec.Signature.Inputs), names(spec.Signature.Outputs)
	native, err := ort.NewDynamicAdvancedSessionWithONNXData(spec.Data, inputs, outputs, options)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "ONNX Runtime %s refuses model %q", e.version, spec.Name)
	}
	s := newSession(native, spec)
	s.learnOutputShapes(ctx)
	return s, nil
}
