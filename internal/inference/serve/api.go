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

// Asking is a Codec that has the values that experiments look at. Others have only a tenant.
type Asking interface {
	// Value returns a value of the request: a header, an attribute or its id, or ""
	// where it has none. See experiment.Request.
	Value(ctx context.Context, from experiment.Source, name string) string
}

// Online is a Codec that knows before Decode whether its request is of the class
// batcher.Online: such a request may be refused without being decoded.
type Online interface {
	// Online returns how many bytes there are to decode, or -1 if the request is of another
	// class or Decode may wait for other requests.
	Online() int
}

// Foreseer are Models that foresee some of their refusals.
type Foreseer interface {
	// Foresee returns the refusal that Predict would end with, judging by the smallest request
	// or one like the tenant's last, and nil where the request may be answered. It does not
	// call Decode. A request that it refuses must not be given to Predict.
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
	AsOf     time.Time // features are as they were known then; zero for now
	Sequence Sequence
	MaxSteps int // of a generation, if below the model's own limit; 0 for that limit
	// Prediction names the prediction in the log, and Attempt counts the attempts at it; zero
	// for a new one. Choice says how it came to its version: a codec sets it where that was
	// decided before the request came here.
	Prediction record.ID
	Attempt    int
	Choice     record.Choice
	// Generation has the request as one of its steps; nil for a prediction of its own.
	Generation *Generation
	// Unlogged keeps the request out of the log.
	Unlogged bool
}

// Sequence says which step of which sequence a request to a stateful model is.
// Package stream makes inputs of it.
type Sequence struct {
	ID         string // a number's digits, or TextMark and a text; empty for none
	Start, End bool
	// Resume goes on although an earlier step failed on the same stream.
	Resume bool
}

// Response is the answer to a Request: the wanted outputs, in the order asked.
type Response struct {
	// Choice is how the request came to its version.
	Choice record.Choice
	// Fallback is the version, as name:version, that refused the request for load before
	// another one answered it; empty where none did.
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

// Step is the place of an answer among those of a generation.
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
	// Lookup returns a live version by decimal number, by alias or by label, or for "" the one
	// that serves requests outside of experiments. Its errors carry the protocol's texts.
	Lookup(name, version string) (*Version, error)
	// Choose is Lookup for a request, which an experiment may give to an arm.
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

// Version is one live model version. All exported fields but Stats are immutable.
type Version struct {
	Name      string
	Number    int64
	Text      string          // Number in decimal
	SHA256    string          // of the model file, hex
	Signature model.Signature // what clients give and get
	Config    model.Config    // resolved
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

	offer   *offered              // that the version is to be loaded from on demand; nil for others
	graph   *model.Signature      // what the engine takes and gives, states included
	logging *record.ContentPolicy // says which tensors the prediction log keeps; nil keeps none
	runtime machinery
	varying bool        // an extent beyond the rows may vary
	told    atomic.Bool // the operator knows that its fallback is unfit
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
	// Requests not answered: refused for load or lateness, given up by their clients, failed
	// runs, and wrong requests.
	Rejected, Canceled, Broken, Wrong atomic.Int64
	Success, Fail, Queue,
	ComputeInput, ComputeInfer, ComputeOutput Duration
	batches [maxStatBatch + 1]Duration // runs by their rows
	wanted  atomic.Int64               // requests in progress to graphs that use it
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
