package model

import (
	"strings"

	"sluice/internal/inference/tensor"
)

// GraphFilename is the name of a graph's file in its version's directory.
const GraphFilename = "graph.yaml"

// PlatformGraph is what a graph has as its platform.
const PlatformGraph = "sluice_graph"

// Bounds of a graph.
const (
	MaxNodes    = 64
	MaxConstant = 1 << 16 // elements
	maxPorts    = 256
	maxCases    = 256 // values of all cases of a switch
)

// Graph is a model that is made of models: nodes that run one after the other,
// each on tensors of the request and of nodes before it.
type Graph struct {
	// Inputs are what a request gives. What is left open of them is as the models say
	// that take them; Dims leave out the batch dimension, where the graph batches.
	Inputs  []PortConfig
	Outputs []string // the tensors to answer with
	Nodes   []Node
	Source  string // the file that it came from, for messages
}

// Kind is what a node does.
type Kind string

// The kinds of nodes.
const (
	Call     Kind = "model"
	Steps    Kind = "sequence"
	Parallel Kind = "parallel"
	Switch   Kind = "switch"
	Ensemble Kind = "ensemble"
	Change   Kind = "transform"
)

// Node is one step of a graph. Its kind says which fields it has.
type Node struct {
	Name string // one of its own in the graph
	Kind Kind
	Line int // of the file

	// Of Call: the model and its version, by number, alias or label, or "" for what
	// requests that name none get; the tensors that its inputs are, by their names;
	// and those that its outputs become, nil for all under their own names.
	Model, Version  string
	Inputs, Outputs map[string]string

	Nodes []Node // of a sequence; the branches of Parallel; the members of Ensemble

	// Of Switch: what it looks at, its cases, the case of all others, and the tensors
	// that every case gives.
	On      On
	Cases   []Case
	Default *Node
	Gives   []string

	// Of Ensemble: Mean or Vote, and what each member's answer counts.
	Combine string
	Weights []float64

	Transform *Transform
	Of        []string // the tensors that Ensemble combines (one) and that a transform takes
	As        string   // the tensor that both make
}

// On is what a switch looks at: a value of the request, or a tensor.
type On struct {
	Header, Attribute string
	Tenant            bool
	Tensor            string
}

// Case is a node for the requests, or rows, of some values.
type Case struct {
	In          []string // any of these values
	From, Below *float64 // numbers from From on, below Below
	Node        Node
}

// How ensembles combine.
const (
	Mean = "mean"
	Vote = "vote"
)

// The kinds of transforms.
const (
	Rename    = "rename"
	Cast      = "cast"
	Slice     = "slice"
	Concat    = "concat"
	Softmax   = "softmax"
	Argmax    = "argmax"
	Threshold = "threshold"
	Constant  = "constant"
)

var transforms = []string{Rename, Cast, Slice, Concat, Softmax, Argmax, Threshold, Constant}

// Transform is a transform with its settings.
type Transform struct {
	Kind     string
	Datatype tensor.Datatype // of Cast and Constant
	Axis     int             // of Slice, Concat, Softmax and Argmax; from the end where negative
	From     int             // of Slice: the first position
	To       *int            // of Slice: behind the last; nil for the end
	At       float64         // of Threshold
	Dims     tensor.Shape    // of Constant, without the batch dimension
	Values   []string        // of Constant, one for all or as many as elements
}

// Reference cuts name@version; the version may be missing.
func Reference(text string) (name, version string) {
	name, version, _ = strings.Cut(text, "@")
	return name, version
}
