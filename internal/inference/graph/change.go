package graph

import (
	"context"

	"sluice/internal/inference/graph/transform"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// change is a node that makes a tensor by a transform.
type change struct {
	op   transform.Op
	from []int
	to   int
}

func (c *change) run(_ context.Context, r *run) error {
	in := make([]tensor.Tensor, len(c.from))
	for i, slot := range c.from {
		in[i] = r.slots[slot]
	}
	t, err := c.op.Apply(in, r.rows, r.memory.alloc)
	r.slots[c.to] = t
	return err
}

func (c *compiler) changeNode(n *model.Node, s *scope) (step, error) {
	op, err := transform.New(n.Transform)
	if err != nil {
		return nil, c.errorf(n, "%s", fault.Of(err).Message)
	}
	does := &change{op: op}
	var ports []model.Port
	for _, name := range n.Of {
		slot, err := c.take(n, s, name)
		if err != nil {
			return nil, err
		}
		does.from, ports = append(does.from, slot), append(ports, c.ports[slot])
	}
	p, err := op.Port(ports, c.batches)
	if err != nil {
		return nil, c.errorf(n, "%s: %s", n.Transform.Kind, fault.Of(err).Message)
	}
	does.to, err = c.make(n, s, n.As, p)
	return does, err
}

// ensemble is a node that combines what several give.
type ensemble struct {
	members []*node
	how     string
	weights []float64
	from    []int // the slot of each member's answer
	to      int
}

func (e *ensemble) run(ctx context.Context, r *run) error {
	if err := parallel(e.members).run(ctx, r); err != nil {
		return err
	}
	answers := make([]tensor.Tensor, len(e.from))
	for i, slot := range e.from {
		answers[i] = r.slots[slot]
	}
	t, err := transform.Combine(ctx, e.how, answers, e.weights, r.memory.alloc)
	r.slots[e.to] = t
	return err
}

func (c *compiler) ensembleNode(n *model.Node, s *scope) (step, error) {
	e := &ensemble{how: n.Combine, weights: n.Weights}
	var all model.Port
	for i := range n.Nodes {
		own := s.inner()
		member, err := c.node(&n.Nodes[i], own)
		if err != nil {
			return nil, err
		}
		slot, made := own.slots[n.Of[0]]
		if !made {
			return nil, c.errorf(&n.Nodes[i], "as a member of '%s' it must make the tensor '%s'; it makes %s", n.Name, n.Of[0], known(&scope{slots: own.slots}))
		}
		p := c.ports[slot]
		if i == 0 {
			all = p
		}
		if err := agree(&all, &p); err != nil {
			return nil, c.errorf(&n.Nodes[i], "'%s' is not what the members of '%s' before it make: %s", n.Of[0], n.Name, fault.Of(err).Message)
		}
		all.Shape, _ = merge(all.Shape, p.Shape)
		e.members, e.from = append(e.members, member), append(e.from, slot)
	}
	if err := transform.Combinable(e.how, all.Datatype); err != nil {
		return nil, c.errorf(n, "%s", fault.Of(err).Message)
	}
	var err error
	e.to, err = c.make(n, s, n.As, all)
	return e, err
}
