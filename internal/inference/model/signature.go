// Package model is the vocabulary of served models: what they take and give
// (Signature), how they are to be served (Config), and which of their
// versions are (VersionPolicy). It does no input or output.
package model

import (
	"slices"

	"sluice/internal/inference/tensor"
)

// Port is one input or output of a model. In Shape, -1 is an extent that may
// vary; where the model batches, Shape includes the leading -1.
type Port struct {
	Name     string
	Datatype tensor.Datatype
	Shape    tensor.Shape
	// Symbols names the varying extents ("batch", "seq"), parallel to Shape;
	// empty where the model gives no name. Equal symbols have equal extents.
	Symbols []string
	// Labels are the class names of a classification output, by index.
	Labels []string
}

// Same reports whether two ports are of the same tensor: its name, datatype and shape.
func (p Port) Same(o Port) bool {
	return p.Name == o.Name && p.Datatype == o.Datatype && p.Shape.Equal(o.Shape)
}

// Signature is what a model takes and gives, in the model's own order.
type Signature struct {
	Inputs  []Port
	Outputs []Port
}

// Same reports whether two signatures are of the same tensors, in the same order.
func (s *Signature) Same(o *Signature) bool {
	return slices.EqualFunc(s.Inputs, o.Inputs, Port.Same) && slices.EqualFunc(s.Outputs, o.Outputs, Port.Same)
}

// Input returns the named input's index, or -1.
func (s *Signature) Input(name string) int { return find(s.Inputs, name) }

// Output returns the named output's index, or -1.
func (s *Signature) Output(name string) int { return find(s.Outputs, name) }

func find(ports []Port, name string) int {
	for i := range ports {
		if ports[i].Name == name {
			return i
		}
	}
	return -1
}
