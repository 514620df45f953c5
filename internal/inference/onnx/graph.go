package onnx

import (
	"slices"

	"sluice/internal/inference/model"
	"sluice/internal/platform/fault"
)

// scope is the values that the nodes of a graph can name, as far as the
// checks have to know them: inputs and constants.
type scope struct {
	parent  *scope
	imports map[string]int64 // operator sets of the model or function
	names   map[string]known // keys are views of the file
}

// known is what is known of a value.
type known struct {
	constant
	input, initializer bool
}

// find returns the constant that a name stands for, if it is one.
func (s *scope) find(label []byte) (constant, bool) {
	for ; s != nil; s = s.parent {
		if k, ok := s.names[string(label)]; ok {
			return k.constant, k.elements > 0
		}
	}
	return constant{}, false
}

// mainGraph checks the model's graph and reads the signature from it.
func (in *inspector) mainGraph(b []byte) error {
	s := &scope{imports: in.model.Opsets, names: map[string]known{}}
	if err := in.graph(b, s); err != nil {
		return err
	}
	sig := &in.model.Signature
	for f := read(b); f.next(); {
		switch f.num {
		case graphInput:
			port, err := in.port(f.b)
			if s.names[port.Name].initializer {
				continue // a default value: the server does not offer to change it
			}
			if err == nil && port.Shape == nil {
				err = fault.New(fault.Unsupported, "has no shape: export it with its dimensions, varying ones by name")
			}
			if err != nil {
				return at(err, "input %.80q", port.Name)
			}
			sig.Inputs = append(sig.Inputs, port)
		case graphOutput:
			port, err := in.port(f.b)
			if err == nil && slices.ContainsFunc(sig.Outputs, func(p model.Port) bool { return p.Name == port.Name }) {
				err = fault.New(fault.Invalid, "is declared more than once")
			}
			if err != nil {
				return at(err, "output %.80q", port.Name)
			}
			sig.Outputs = append(sig.Outputs, port)
		}
		if len(sig.Inputs) > in.limits.MaxPorts || len(sig.Outputs) > in.limits.MaxPorts {
			return fault.New(fault.TooLarge, "the model has more than %d inputs or outputs", in.limits.MaxPorts)
		}
	}
	if len(sig.Outputs) == 0 {
		return fault.New(fault.Invalid, "the model has no outputs")
	}
	return nil
}

// graph checks a GraphProto whose scope has been made. Nodes come last: they
// name initializers, which follow them in the file.
func (in *inspector) graph(b []byte, s *scope) error {
	for f := read(b); f.next(); {
		var err error
		switch f.num {
		case graphInput:
			err = at(in.input(f.b, s), "input")
		case graphOutput:
			_, err = in.declaration(f.b)
			err = at(err, "output")
		case graphValue:
			_, err = in.declaration(f.b)
			err = at(err, "value")
		case graphInitializer:
			err = in.initializer(f.b, s)
		case graphSparse:
			err = in.sparseInitializer(f.b, s)
		}
		if err != nil {
			return err
		}
	}
	for f := read(b); f.next(); {
		if f.num == graphNode {
			if err := in.node(f.b, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// input declares an input of a graph or subgraph.
func (in *inspector) input(b []byte, s *scope) error {
	label, err := in.declaration(b)
	if err != nil {
		return err
	}
	k := s.names[string(label)]
	if k.input {
		return fault.New(fault.Invalid, "%.80q is declared more than once", label)
	}
	if most := in.limits.MaxTensors + in.limits.MaxPorts; len(s.names) >= most {
		return fault.New(fault.TooLarge, "a graph has more than %d inputs", most)
	}
	k.input = true
	s.names[view(label)] = k
	return nil
}

// initializer checks and declares an initializer.
func (in *inspector) initializer(b []byte, s *scope) error {
	t, err := readTensor(b, in.limits)
	if err != nil {
		return at(err, "initializer %.80q", t.name)
	}
	return in.define(t.name, t.constant(b), s)
}

// sparseInitializer checks and declares an initializer in sparse form, whose
// values are not kept.
func (in *inspector) sparseInitializer(b []byte, s *scope) error {
	t, err := in.sparse(b)
	if err != nil {
		return at(err, "sparse initializer %.80q", t.name)
	}
	return in.define(t.name, constant{elements: t.elements}, s)
}

// define makes an initializer's value known.
func (in *inspector) define(label []byte, c constant, s *scope) error {
	k := s.names[string(label)]
	switch {
	case len(label) == 0:
		return fault.New(fault.Invalid, "an initializer has no name")
	case k.initializer:
		return fault.New(fault.Invalid, "initializer %.80q is declared more than once", label)
	}
	k.initializer, k.constant = true, c
	s.names[view(label)] = k
	in.model.Parameters += c.elements
	return nil
}
