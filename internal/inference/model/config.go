package model

import (
	"time"

	"sluice/internal/inference/tensor"
)

// DefaultFilename is the name of a model file in its version's directory.
const DefaultFilename = "model.onnx"

// Platform is Triton's name for ONNX models run by ONNX Runtime, the only
// platform that is served.
const Platform = "onnxruntime_onnx"

// Config says how a model is to be served. The zero value of a field means
// "not set"; Resolve fills it from the model's signature and the server's
// defaults.
type Config struct {
	Name        string
	Description string
	Platform    string // Triton's platform name; Platform where set
	Filename    string // the model file in a version's directory; DefaultFilename where resolved
	// MaxBatchSize is the most rows in one run; 0 means that the model has no
	// batch dimension, nil that the model's signature decides.
	MaxBatchSize *int
	// SLO is the time within which an online request should be answered.
	SLO time.Duration
	// Inputs and Outputs, where given, must agree with the signature; Dims
	// leave out the batch dimension, as in Triton.
	Inputs  []PortConfig
	Outputs []PortConfig
	Labels  map[string]int64 // label -> version, beside the numeric versions
	Policy  VersionPolicy
	// Batching holds explicit Triton-style settings; nil means just-in-time
	// batching with the SLO as its only setting.
	Batching *Batching
	// NoBatching runs each request by itself. The loader also sets it where a
	// row's answer was found to depend on its neighbours.
	NoBatching bool
	Sequence   *Sequence // nil: each request stands alone
	Generate   *Generate // nil: each request has one answer
	Features   *Features // inputs that the server takes from the feature store; nil: none
	Fallback   Fallback  // answers what the model refuses for load; zero: nobody does
	Execution  Execution
	Warmup     []Warmup
	Parameters map[string]string
	// Source is the file that the config came from, for messages; empty if none.
	Source string
	// Warnings name settings that were understood but have no effect here.
	Warnings []string
}

// PortConfig is a configured input or output.
type PortConfig struct {
	Name      string
	Datatype  tensor.Datatype // Invalid: as in the model
	Dims      tensor.Shape    // without the batch dimension; nil: as in the model
	Labels    []string        // class names of a classification output
	LabelFile string          // a file beside the config that holds Labels, one a line
	Optional  bool
}

// VersionPolicy chooses which of the versions in the repository are served.
// The zero value is the latest one.
type VersionPolicy struct {
	All      bool
	Latest   int     // the n numerically greatest; 0 means 1
	Specific []int64 // exactly these
}

// Batching holds the settings of Triton's dynamic_batching that are honoured.
type Batching struct {
	PreferredSizes       []int
	MaxQueueDelay        time.Duration
	MaxQueueSize         int // requests; 0 means the server's default
	DefaultTimeout       time.Duration
	AllowTimeoutOverride bool
	TimeoutDelay         bool // timeout action DELAY: run after all others instead of refusing
	PreserveOrdering     bool
	PriorityLevels       int
	DefaultPriority      int
}

// Execution holds the engine settings of a model. Zero values mean the
// engine's defaults.
type Execution struct {
	Provider     string // "cpu" (default), "cuda", "tensorrt"
	Executors    int    // concurrent runs; 0: learned, at most the cores
	IntraThreads int    // threads within a run; 0 means 1
	// InterThreads above 1 runs independent branches of the graph in parallel
	// on that many threads.
	InterThreads int
	NoArena      bool   // give memory back after each run at some cost in speed
	Optimization string // "disable", "basic", "extended", "all" (default)
}

// Runs returns how many runs there are at a time, at most, on so many cores.
func (e Execution) Runs(cores int) int {
	if e.Executors > 0 {
		return e.Executors
	}
	return max(cores/max(e.IntraThreads, 1), 1)
}

// Warmup is one request to run at load, Count times.
type Warmup struct {
	Name      string
	BatchSize int // rows; 0 where the model has no batch dimension
	Count     int
	Inputs    map[string]WarmupInput
}

// WarmupInput is the data of one input of a warm-up request.
type WarmupInput struct {
	Datatype tensor.Datatype
	Dims     tensor.Shape // every extent >= 1, without the batch dimension
	Random   bool         // else zeros
}
