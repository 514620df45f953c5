package graph

import (
	"context"
	"maps"
	"slices"
	"strings"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// call is a node that has a model answer.
type call struct {
	model, version string
	takes, gives   []model.Port
	outputs        []string
	from, to       []int // slots of the inputs and of the outputs
}

func (c *call) run(ctx context.Context, r *run) error {
	inputs := make([]tensor.Tensor, len(c.from))
	for i, slot := range c.from {
		inputs[i] = r.slots[slot]
		inputs[i].Name = c.takes[i].Name
	}
	request := Call{Model: c.model, Version: c.version, Inputs: inputs, Outputs: c.outputs, Takes: c.takes, Gives: c.gives, Alloc: r.memory.alloc}
	err := r.caller.Call(ctx, &request)
	r.compute.Add(int64(request.Compute))
	if err != nil {
		return gone(err)
	}
	for i, slot := range c.to {
		if r.rows >= 0 && request.Results[i].Rows() != r.rows {
			return fault.New(fault.Internal, "output '%s' of model '%s' has %d rows for %d", c.outputs[i], c.model, request.Results[i].Rows(), r.rows)
		}
		r.slots[slot] = request.Results[i]
	}
	return nil
}

// gone words the error of a model that was there when the graph was loaded: that it
// is not any more is no fault of the client's.
func gone(err error) error {
	f := fault.Of(err)
	if f.Code != "model_not_found" && f.Code != "version_not_found" {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "its model is not served any more: %s", f.Message).WithCode("graph_model_missing")
}

// callNode checks a call against its model.
func (c *compiler) callNode(n *model.Node, s *scope) (step, error) {
	m := c.members[reference(n)]
	p := &call{model: n.Model, version: n.Version, takes: m.Signature.Inputs}
	for name := range n.Inputs {
		if m.Signature.Input(name) < 0 {
			return nil, c.errorf(n, "model '%s' has no input '%s': it takes %s", n.Model, name, list(m.Signature.Inputs))
		}
	}
	for i := range p.takes {
		in := &p.takes[i]
		slot, err := c.take(n, s, source(n, in.Name))
		if err != nil {
			return nil, err
		}
		if err := agree(in, &c.ports[slot]); err != nil {
			return nil, c.errorf(n, "input '%s' of model '%s' cannot be '%s': %s", in.Name, n.Model, source(n, in.Name), fault.Of(err).Message)
		}
		p.from = append(p.from, slot)
	}
	names := n.Outputs
	if names == nil {
		names = map[string]string{}
		for _, out := range m.Signature.Outputs {
			names[out.Name] = out.Name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		i := m.Signature.Output(name)
		if i < 0 {
			return nil, c.errorf(n, "model '%s' has no output '%s': it gives %s", n.Model, name, list(m.Signature.Outputs))
		}
		slot, err := c.make(n, s, names[name], m.Signature.Outputs[i])
		if err != nil {
			return nil, err
		}
		p.outputs, p.gives, p.to = append(p.outputs, name), append(p.gives, m.Signature.Outputs[i]), append(p.to, slot)
	}
	c.calls = append(c.calls, p)
	return p, nil
}

// source is the tensor that an input of a model is.
func source(n *model.Node, input string) string {
	if name, ok := n.Inputs[input]; ok {
		return name
	}
	return input
}

// agree returns an error unless a tensor of the port have can be one of want.
func agree(want, have *model.Port) error {
	if want.Datatype != have.Datatype {
		return fault.New(fault.Invalid, "it is %s, not %s", have.Datatype, want.Datatype)
	}
	if _, ok := merge(want.Shape, have.Shape); !ok {
		return fault.New(fault.Invalid, "it has shape %s, not %s", have.Shape, want.Shape)
	}
	return nil
}

// merge returns the shape that two descriptions of one tensor come to, and whether
// there is one.
func merge(a, b tensor.Shape) (tensor.Shape, bool) {
	if len(a) != len(b) {
		return nil, false
	}
	out := slices.Clone(a)
	for i := range b {
		switch {
		case out[i] < 0:
			out[i] = b[i]
		case b[i] >= 0 && b[i] != out[i]:
			return nil, false
		}
	}
	return out, true
}

func list(ports []model.Port) string {
	names := make([]string, len(ports))
	for i := range ports {
		names[i] = "'" + ports[i].Name + "'"
	}
	return strings.Join(names, ", ")
}
