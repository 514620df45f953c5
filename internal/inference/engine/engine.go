// Package engine is the port to an inference runtime: it turns a checked model
// file into a Session and runs batches on it. Adapters (ortengine) pass the
// contract suite in enginetest.
package engine

import (
	"context"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
)

// Part is one caller's share of a run. The caller owns it and everything in
// it; the session borrows Inputs during Run and fills Outputs.
type Part struct {
	// Inputs are in signature order. Where the model batches, the leading
	// dimension of each is Rows, and the other extents agree between parts.
	Inputs []tensor.Tensor
	Rows   int
	// Outputs are set by Run in signature order; their data lies in Slab,
	// which the caller releases.
	Outputs []tensor.Tensor
	Slab    *tensor.Slab
	// Dims backs the shapes of Outputs; Run appends to it.
	Dims []int64
}

// Own copies the outputs' data into a slab of the part's own, so that it
// outlives the run's memory. Sessions call it last.
func (p *Part) Own() {
	size := 0
	for i := range p.Outputs {
		size += (len(p.Outputs[i].Data) + 7) &^ 7
	}
	p.Slab = tensor.GetSlab(size)
	block, at := p.Slab.B[:size], 0
	for i := range p.Outputs {
		n := copy(block[at:], p.Outputs[i].Data)
		p.Outputs[i].Data = block[at : at+n : at+n]
		at += (n + 7) &^ 7 // keep every output aligned for wide loads
	}
	p.Slab.B = block
}

// Reset releases the outputs and empties the part for its next use, keeping
// its slices.
func (p *Part) Reset() {
	p.Slab.Release()
	clear(p.Inputs)
	clear(p.Outputs)
	*p = Part{Inputs: p.Inputs[:0], Outputs: p.Outputs[:0], Dims: p.Dims[:0]}
}

// Session is a loaded model. Run may be called concurrently.
type Session interface {
	// Run concatenates the parts along the leading dimension, runs the model
	// once and splits its outputs among the parts. With more than one part the
	// model must batch. An error is everybody's: no part then has outputs.
	// Where ctx ends early the run is abandoned as soon as the runtime allows.
	Run(ctx context.Context, parts []*Part) error
	// Close frees the model. No Run may be in progress or follow.
	Close() error
}

// Engine opens models.
type Engine interface {
	// Open loads a model file that has passed the gate (package onnx).
	Open(ctx context.Context, spec Spec) (Session, error)
	// Version names the runtime and its version, for metadata and caches.
	Version() string
}

// Spec is what an engine needs to open a model.
type Spec struct {
	Name      string // for messages
	Data      []byte // the file, not kept after Open
	Signature *model.Signature
	Batches   bool // the leading dimension of every port is the batch
	MaxRows   int  // most rows in one run; 0 or 1 where the model does not batch
	Execution model.Execution
}
