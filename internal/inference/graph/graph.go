// Package graph runs models that are made of models: inference graphs.
//
// Compile checks a graph once against the models that it uses: every tensor is
// there when it is taken, of the type and shape that is wanted. What comes of it is
// immutable and runs many requests at a time. The models are called through
// whatever a Caller does for any request, so that they batch, change versions and
// refuse as ever.
package graph

import (
	"context"
	"reflect"
	"time"

	"sluice/internal/inference/experiment"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// Member is what a graph needs to know of a model.
type Member struct {
	Signature model.Signature
	// Batches says that the leading dimension of every port is the batch; MaxRows is
	// how many rows a request may have, and Independent that they do not depend on
	// each other.
	Batches     bool
	MaxRows     int
	Independent bool
	// Uses names the models that it calls itself, where it is a graph.
	Uses []string
	// Steps says that it answers step by step, or keeps state: no part of a graph.
	Steps bool
	// Number and SHA256 are the version that it is now, and its file, in hex.
	Number int64
	SHA256 string
}

// Find returns a model by its name and version, which may be "". It fails where
// there is none.
type Find func(name, version string) (Member, error)

// Caller calls the models of a graph.
type Caller interface {
	// Call has a model answer; the inputs stay valid until it returns. Its errors are the
	// model's own: the graph adds the name of the node.
	Call(ctx context.Context, c *Call) error
}

// Call is one request to a model.
type Call struct {
	Model, Version string
	Inputs         []tensor.Tensor // in the signature's order, under its names
	Outputs        []string        // those wanted, in order
	// Takes and Gives are the ports of Inputs and Outputs that the graph was checked for:
	// another version may be served by now.
	Takes, Gives []model.Port
	// Alloc returns memory for the answer's data, which belongs to the graph.
	Alloc func(n int) ([]byte, error)

	// Results are the outputs and Compute the model's time for them, both set by the Caller.
	Results []tensor.Tensor
	Compute time.Duration
}

// Graph is a checked graph. It is immutable.
type Graph struct {
	Member  // what the graph is itself
	name    string
	root    sequence
	inputs  []int // slots of the inputs, in the signature's order
	outputs []int
	ports   []model.Port // by slot
	calls   []*call      // of all nodes
	uses    []Use
	observe Observer
}

// Use is a model that a graph calls, by the name and version that its nodes have, as it
// was when the graph was checked.
type Use struct {
	Model, Version string
	Member         Member
}

// Calls returns the models that the graph calls itself, each once, sorted.
func (g *Graph) Calls() []Use { return g.uses }

// Alike reports whether two graphs of the same file were checked for the same: what
// one can do with its models, the other can.
func (g *Graph) Alike(o *Graph) bool {
	return reflect.DeepEqual(g.Member, o.Member) && reflect.DeepEqual(g.calls, o.calls)
}

// Observer is told what each node took, and how it failed, if it did.
type Observer func(node string, took time.Duration, err error)

// Memory bounds what the tensors of requests take. It is safe for concurrent use.
type Memory interface {
	// Acquire adds n bytes, or fails and adds nothing.
	Acquire(n int64) error
	// Return takes n bytes off again.
	Return(n int64)
}

type unbounded struct{}

func (unbounded) Acquire(int64) error { return nil }
func (unbounded) Return(int64)        {}

// Request is one request to a graph.
type Request struct {
	Memory Memory          // counts what nodes make, until Result.Release; nil for no bound
	Inputs []tensor.Tensor // in the signature's order; the graph borrows their data
	Rows   int             // of each input, where the graph batches
	// Value returns a value of the request, or ""; see experiment.Request.
	Value func(from experiment.Source, name string) string
}

// Result is the answer to a request. Its data is valid until Release.
type Result struct {
	Outputs []tensor.Tensor // in the signature's order
	Compute time.Duration   // of all models together
	memory  *memory
}

// Release gives the memory of the answer back. A nil result is fine.
func (r *Result) Release() {
	if r != nil {
		r.memory.release()
	}
}

// Run answers a request. The first node that fails ends the others; its error names
// it. Nothing of the graph runs any more when Run returns.
func (g *Graph) Run(ctx context.Context, req Request, c Caller) (*Result, error) {
	if req.Memory == nil {
		req.Memory = unbounded{}
	}
	ctx, err := deeper(ctx, g.name)
	if err != nil {
		return nil, err
	}
	r := &run{graph: g, caller: c, value: req.Value, slots: make([]tensor.Tensor, len(g.ports)), rows: -1, shared: &shared{memory: memory{of: req.Memory}}}
	if g.Batches {
		r.rows = int64(req.Rows)
	}
	for i, slot := range g.inputs {
		r.slots[slot] = req.Inputs[i]
	}
	if err := g.root.run(ctx, r); err != nil {
		r.memory.release()
		return nil, err
	}
	result := &Result{Compute: time.Duration(r.compute.Load()), memory: &r.memory}
	for i, slot := range g.outputs {
		t := r.slots[slot]
		t.Name = g.Signature.Outputs[i].Name
		result.Outputs = append(result.Outputs, t)
	}
	return result, nil
}
