// Package serve is the hot path: it takes a decoded request to a loaded model
// version and its answer back. Predict reads from top to bottom; everything
// else here keeps the table of live versions that it reads.
package serve

import (
	"context"
	"sync/atomic"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/route"
	"sluice/internal/inference/tensor"
)

// Codec is one request on its way through: an edge (REST, gRPC, a worker)
// implements it over its own wire format.
type Codec interface {
	// Target names the model and the version asked for; an empty version
	// leaves the choice to the routing table.
	Target() (model, version string)
	// Decode fills the request from the wire. The version is resolved already,
	// so that a codec can use its signature. Tensor data must stay valid until
	// Encode returns.
	Decode(ctx context.Context, v *Version, req *Request) error
	// Encode writes the answer. The response is only valid during the call.
	Encode(ctx context.Context, v *Version, resp *Response) error
}

// Asking is a Codec that knows what experiments look at. Without it a request has
// no more than a tenant.
type Asking interface {
	// Value returns a value of the request: a header, an attribute or its id, or ""
	// where it has none. See experiment.Request.
	Value(ctx context.Context, from experiment.Source, name string) string
}

// Online is a Codec of which the request is known to be of the class batcher.Online
// before Decode: it may be refused without being decoded.
type Online interface {
	// Online returns the size of what there is to decode, in bytes, or -1 where the
	// request is of another class, or Decode may wait for others.
	Online() int
}

// Foreseer are Models that know some of their refusals beforehand.
type Foreseer interface {
	// Foresee returns the refusal that Predict would end with for the best that may be, or for a
	// request like the tenant's last; nil where it may be answered. Of the codec it
	// asks for what the request's head says. A request that it refuses is not for
	// Predict any more.
	Foresee(ctx context.Context, c Codec) error
}

// Request is one prediction as a codec decoded it.
type Request struct {
	ID       string
	Inputs   []tensor.Tensor // in any order, under the client's names
	Outputs  []string        // the outputs wanted, in order; empty means all
	Timeout  time.Duration   // the client's own limit from now; 0 means the SLO alone
	Priority int             // 1 is the most urgent; 0 means the model's default
	Class    batcher.Class
	Tenant   string
	AsOf     time.Time // what features are those of; zero for now
	Sequence Sequence
	MaxSteps int // of a generation, if fewer than the model's own limit; 0 for that
	// Prediction names the prediction in the log, and Attempt which attempt at it
	// this is; zero for a new one. Choice says how it came to its version: a codec sets
	// it where that was before the request was routed.
	Prediction record.ID
	Attempt    int
	Choice     record.Choice
	// Generation is what it is a step of; nil for a prediction of its own.
	Generation *Generation
	// Unlogged keeps it out of the log: it asks again what the log has already.
	Unlogged bool
}

// Sequence says which step of which sequence a request to a stateful model is.
// Package stream makes inputs of it.
type Sequence struct {
	ID         string // a number's digits, or TextMark and a text; empty for none
	Start, End bool
	// Resume goes on behind a step that failed on the same stream.
	Resume bool
}

// Response is the answer to a Request: the wanted outputs, in the order asked.
type Response struct {
	// Choice is how the request came to its version.
	Choice record.Choice
	// Fallback is the version that refused the request for load, as name:version,
	// where another one has answered it; else empty.
	Fallback string
	Outputs  []tensor.Tensor
	// Ports are the signature's ports of Outputs, index by index.
	Ports  []*model.Port
	Timing Timing
	// Prediction names the prediction in the log; zero where there is none.
	Prediction record.ID
	Step       Step
	Use        Use
}

// Use is what an answered request took of its model.
type Use struct {
	Rows                    int
	Compute                 time.Duration // its share of the run
	InputBytes, OutputBytes int64         // of its tensors
}

// TextMark begins the ID of a sequence that the client names by a text: 5 and
// "5" are different names.
const TextMark = `"`

// Step is the place of an answer among those to one request, where that is a
// generation.
type Step struct {
	Number int // from 1; 0 where the request has one answer
	More   bool
	Ended  string // why there are no more: EndValue or EndSteps
}

// Why a generation ends.
const (
	EndValue = "end_value" // the model gave the value that ends it
	EndSteps = "max_steps"
)

// Timing says where the time of one request went.
type Timing struct {
	Decode, Queue, Infer, Encode time.Duration
	BatchRows                    int // rows in the run that served it
}

// State is a model version's state in the repository index.
type State string

// The states, spelled as the model repository extension does.
const (
	Unknown     State = "UNKNOWN"
	Ready       State = "READY"
	Unavailable State = "UNAVAILABLE"
	Loading     State = "LOADING"
	Unloading   State = "UNLOADING"
)

// IndexEntry is one row of the repository index.
type IndexEntry struct {
	Name    string
	Version string // empty where no version is known
	State   State
	Reason  string // why it is not ready
}

// LoadOptions are what an explicit load may override.
type LoadOptions struct {
	// ConfigJSON is a model configuration in Triton's JSON form; empty uses
	// the repository's.
	ConfigJSON string
	// Files replace the model's files: "1/model.onnx" -> content.
	Files map[string][]byte
}

// Models is the read and control side of the server that the protocol edges
// use beside Predict. *Server implements it.
type Models interface {
	// Predict serves one request through the codec. It returns the error for
	// the edge to write; it writes nothing itself.
	Predict(ctx context.Context, c Codec) error
	// Lookup returns a live version: by decimal number, by alias, by label, or for
	// "" the routing table's choice, of those in no experiment. Its errors carry the
	// protocol's texts.
	Lookup(name, version string) (*Version, error)
	// Choose is Lookup for one request, which an experiment may give to an arm.
	Choose(name, version string, r experiment.Request) (route.Choice[*Version], error)
	// Versions returns the live versions of a model, ascending.
	Versions(name string) ([]*Version, error)
	// Names returns the names of models with a live version, sorted.
	Names() []string
	// Index lists every model version that the repository holds or the server
	// has loaded, sorted by name and version.
	Index() []IndexEntry
	// Load loads or reloads a model and returns once it serves.
	Load(ctx context.Context, name string, opts LoadOptions) error
	// Unload takes a model out of service, drains it, and frees it.
	Unload(ctx context.Context, name string) error
	// Ready reports whether every configured model answers.
	Ready() bool
}

// Version is one live model version. All but Stats is immutable.
type Version struct {
	Name      string
	Number    int64
	Text      string          // Number in decimal
	SHA256    string          // of the model file, hex
	Signature model.Signature // what clients give and get
	Config    model.Config    // resolved: no nil or zero means "default" any more
	// Batches says that the leading dimension of every port is the batch, and
	// MaxRows how many rows one request or run may have; 0 where it does not.
	Batches bool
	MaxRows int
	// CrossRequest says that rows of different requests may share a run. It is
	// false where the batch-invariance probe found that a row's answer depends
	// on its neighbours; Invariance tells why.
	CrossRequest bool
	Invariance   string
	Stats        *Stats

	offer   *offered              // of one that is to be loaded when it is wanted; nil for others
	graph   *model.Signature      // what the engine takes and gives: with the state, if there is one
	logging *record.ContentPolicy // of the tensors that the prediction log keeps; nil keeps none
	runtime machinery
	varying bool        // an extent beyond the rows may vary
	told    atomic.Bool // that its fallback is unfit
	ties    []tie
	// refs counts the table's reference and one for each request in progress;
	// at zero the version is closed.
	refs atomic.Int64
}

// Stateful reports whether requests are steps of sequences.
func (v *Version) Stateful() bool { return v.Config.Sequence != nil }

// Graph reports whether the version is a graph of models.
func (v *Version) Graph() bool { return v.runtime.graph != nil }

// Generative reports whether a request is answered step by step.
func (v *Version) Generative() bool { return v.Config.Generate != nil }

// Stats counts what a version did, in the protocol's statistics groups. All
// fields are updated atomically.
type Stats struct {
	LastInference atomic.Int64 // Unix milliseconds
	Inferences    atomic.Int64 // rows answered
	Executions    atomic.Int64 // runs
	Pending       atomic.Int64 // requests in the server now
	// Requests not answered: refused for load or lateness, gone clients, runs
	// that failed, and requests that were wrong.
	Rejected, Canceled, Broken, Wrong atomic.Int64
	Success, Fail, Queue,
	ComputeInput, ComputeInfer, ComputeOutput Duration
	batches [maxStatBatch + 1]batchStat
	wanted  atomic.Int64 // requests to graphs that have it among their models
}

// Duration is a count and a sum of nanoseconds.
type Duration struct{ Count, Nanos atomic.Int64 }

// Add counts one duration.
func (d *Duration) Add(t time.Duration) {
	d.Count.Add(1)
	d.Nanos.Add(int64(t))
}

// maxStatBatch is the largest batch size with a statistics row of its own;
// larger ones share the last row.
const maxStatBatch = 1024

type batchStat struct{ input, infer, output Duration }
