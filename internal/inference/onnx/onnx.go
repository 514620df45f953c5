// Package onnx decides whether a model file may be given to the runtime, and
// reads from it what the server has to know: its signature, its operator
// sets, its size.
//
// The file is checked in two passes over the bytes, without decoding it into
// objects and without copying weights: the structure pass (wire.go, against
// the message tables of schema.go) makes sure that it is exactly what a
// protobuf serializer of the ONNX messages would write, within the limits on
// counts and nesting; the second pass checks what the messages mean. The time
// is linear in the size of the file; the memory is bounded by Limits.
//
// Known limits: the sizes that operators would allocate are checked where
// they follow from constants of the same graph or an enclosing one, not where
// they are computed or passed into a local function; types and shapes between
// nodes are left to the runtime's own inference. A file that passes is
// well-behaved on disk: it is not proven harmless to run.
package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unsafe"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// Model is what Inspect found in a file. It holds no view of the file.
type Model struct {
	IRVersion int64
	Opsets    map[string]int64 // imported version by domain; the standard domain is "ai.onnx"
	Producer  string           // the tool that wrote the file, with its version; empty if not said
	// Signature has the graph's inputs, without those that initializers give a
	// value, and its outputs. The Shape of a scalar is empty; that of an output
	// whose number of dimensions is not known is nil.
	Signature model.Signature
	// Operators counts the nodes by operator, subgraphs and local functions
	// included (each function once): "Conv", and with the domain where it is
	// not the standard one, "ai.onnx.ml.Scaler".
	Operators  map[string]int
	Nodes      int   // the sum of Operators
	Parameters int64 // elements of all initializers
	SHA256     string
	Metadata   map[string]string
}

// Inspect checks a model file and describes it. The data is only read, and
// must not change meanwhile. Errors say what is wrong and where: Invalid for
// a malformed file, TooLarge for one over a limit, Unsupported for one that
// uses what is not allowed here.
func Inspect(data []byte, limits Limits) (*Model, error) {
	if int64(len(data)) > limits.MaxBytes {
		return nil, fault.New(fault.TooLarge, "the model file has %d bytes; at most %d are allowed", len(data), limits.MaxBytes)
	}
	if len(data) == 0 {
		return nil, fault.New(fault.Invalid, "the model file is empty")
	}
	// The runtime takes bytes with this mark for its own format, even where
	// they are an ONNX file too, and would run what was never checked.
	if len(data) >= 8 && string(data[4:8]) == "ORTM" {
		return nil, fault.New(fault.Unsupported, "the model file is in ONNX Runtime's own format (or bears its mark %q): export it as ONNX", "ORTM")
	}
	if err := checkStructure(data, &limits); err != nil {
		return nil, err
	}
	in := newInspector(&limits)
	if err := in.file(data); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	in.model.SHA256 = hex.EncodeToString(sum[:])
	return in.model, nil
}

// inspector holds the state of the second pass.
type inspector struct {
	limits    *Limits
	model     *Model
	functions map[functionID]*body
	operators map[operatorID]int
	body      *body // the graph or function being walked

	metadataBytes int
}

func newInspector(limits *Limits) *inspector {
	return &inspector{
		limits:    limits,
		model:     &Model{Opsets: map[string]int64{}, Operators: map[string]int{}, Metadata: map[string]string{}},
		functions: map[functionID]*body{},
		operators: map[operatorID]int{},
	}
}

type operatorID struct{ domain, op string }

// file checks the outermost message.
func (in *inspector) file(data []byte) error {
	var graph, version []byte
	var functions [][]byte
	hasIR, hasGraph := false, false
	for f := read(data); f.next(); {
		var err error
		switch f.num {
		case modelIR:
			in.model.IRVersion, hasIR = int64(f.u), true
		case modelProducer:
			in.model.Producer = string(f.b)
		case 3: // producer_version
			version = f.b
		case modelGraph:
			graph, hasGraph = f.b, true
		case modelOpset:
			err = in.opset(f.b, in.model.Opsets)
		case modelMetadata:
			err = in.metadata(f.b)
		case modelFunction:
			functions = append(functions, f.b)
		}
		if err != nil {
			return err
		}
	}
	if in.model.Producer != "" && len(version) > 0 {
		in.model.Producer += " " + string(version)
	}
	ir := in.model.IRVersion
	switch {
	case !hasIR || !hasGraph:
		return fault.New(fault.Invalid, "not an ONNX model: it has no %s", missing(hasIR))
	case ir < in.limits.MinIR || ir > in.limits.MaxIR:
		return fault.New(fault.Unsupported, "IR version %d is not supported: use %d to %d", ir, in.limits.MinIR, in.limits.MaxIR)
	case len(in.model.Opsets) == 0:
		return fault.New(fault.Invalid, "the model imports no operator set (opset_import)")
	}
	return in.graphs(graph, functions)
}

func missing(hasIR bool) string {
	if hasIR {
		return "graph"
	}
	return "ir_version"
}

// graphs walks the local functions and the main graph.
func (in *inspector) graphs(graph []byte, functions [][]byte) error {
	bodies := make([]*body, len(functions))
	for i, f := range functions {
		var err error
		if bodies[i], err = in.declare(f); err != nil {
			return err
		}
	}
	for i, f := range functions {
		in.body = bodies[i]
		if err := at(in.function(f), "function %s", in.body.label); err != nil {
			return err
		}
	}
	in.body = &body{label: "the graph"}
	if err := in.mainGraph(graph); err != nil {
		return err
	}
	for _, b := range slices.Concat(bodies, []*body{in.body}) {
		if err := in.expand(b); err != nil {
			return err
		}
	}
	for id, n := range in.operators {
		in.model.Operators[strings.Clone(operatorName(id.domain, id.op))] = n
		in.model.Nodes += n
	}
	return nil
}

// opset checks one import and adds it to the set.
func (in *inspector) opset(b []byte, into map[string]int64) error {
	domain, version := standardDomain, int64(0)
	for f := read(b); f.next(); {
		switch f.num {
		case opsetDomain:
			domain = canonical(string(f.b))
		case opsetVersion:
			version = int64(f.u)
		}
	}
	if known, ok := in.limits.Domains[domain]; ok && (version < known.MinOpset || version > known.MaxOpset) {
		return fault.New(fault.Unsupported, "version %d of operator set %q is not supported: use %d to %d",
			version, domain, known.MinOpset, known.MaxOpset)
	}
	// Exporters import sets that no node uses. Those are harmless, so an
	// unknown domain is refused where a node names it.
	if version < 0 || version > 1000 {
		return fault.New(fault.Invalid, "version %d of operator set %.80q is not plausible", version, domain)
	}
	if before, ok := into[domain]; ok && before != version {
		return fault.New(fault.Invalid, "operator set %.80q is imported as version %d and as %d", domain, before, version)
	}
	if into[domain] = version; len(into) > 1000 {
		return fault.New(fault.TooLarge, "more than 1000 operator sets are imported")
	}
	return nil
}

// metadata reads one of the model's metadata entries.
func (in *inspector) metadata(b []byte) error {
	var key, val []byte
	for f := read(b); f.next(); {
		if f.num == entryKey {
			key = f.b
		} else {
			val = f.b
		}
	}
	if string(key) == "ort_config" {
		return fault.New(fault.Unsupported, "metadata %q would configure the runtime's session: remove it", key)
	}
	if _, ok := in.model.Metadata[string(key)]; ok {
		return fault.New(fault.Invalid, "metadata key %.80q occurs more than once", key)
	}
	// An entry costs the map some bytes even where it is empty.
	if in.metadataBytes += len(key) + len(val) + 32; in.metadataBytes > in.limits.MaxMetadata {
		return fault.New(fault.TooLarge, "the model's metadata has more than %d bytes", in.limits.MaxMetadata)
	}
	in.model.Metadata[string(key)] = string(val)
	return nil
}

func canonical(domain string) string {
	if domain == "" {
		return standardDomain
	}
	return domain
}

func operatorName(domain, op string) string {
	if domain == standardDomain {
		return op
	}
	return domain + "." + op
}

// view is b as a string without copying it: for map keys that live no longer
// than Inspect, so that a file of many long names costs no memory. The data
// does not change meanwhile.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
