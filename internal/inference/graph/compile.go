package graph

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// compiler checks a graph and gives its tensors slots.
type compiler struct {
	spec    *model.Graph
	name    string
	members map[string]Member // by name@version
	ports   []model.Port      // by slot
	calls   []*call
	readers []*reads // of the switches around the node that is being checked
	batches bool
}

// reads are the slots that a case of a switch takes from around it.
type reads struct {
	below int // slots from here on are made within
	slots map[int]bool
}

// scope is the tensors that a node may take: those of its own sequence, and of the
// ones around it.
type scope struct {
	around *scope
	slots  map[string]int
}

func (s *scope) inner() *scope { return &scope{around: s, slots: map[string]int{}} }

func (s *scope) find(name string) (int, bool) {
	for ; s != nil; s = s.around {
		if slot, ok := s.slots[name]; ok {
			return slot, true
		}
	}
	return 0, false
}

// Compile checks a graph of this name against the models that it uses. It fails with
// fault.Invalid, and says of which node, where the graph cannot work; and as find
// does. observe may be nil.
func Compile(name string, spec *model.Graph, find Find, observe Observer) (*Graph, error) {
	c := &compiler{spec: spec, name: name, members: map[string]Member{}}
	if err := c.findAll(spec.Nodes, find); err != nil {
		return nil, err
	}
	if observe == nil {
		observe = func(string, time.Duration, error) {}
	}
	g := &Graph{name: name, observe: observe}
	c.summarise(&g.Member)
	top := (*scope)(nil).inner()
	if err := c.inputs(g, top); err != nil {
		return nil, err
	}
	var err error
	if g.root, err = c.sequence(spec.Nodes, top); err != nil {
		return nil, err
	}
	if err := c.outputs(g, top); err != nil {
		return nil, err
	}
	g.ports, g.calls = c.ports, c.calls
	for _, reference := range slices.Sorted(maps.Keys(c.members)) {
		name, version := model.Reference(reference)
		g.uses = append(g.uses, Use{name, version, c.members[reference]})
	}
	return g, nil
}

// findAll finds the models of all nodes.
func (c *compiler) findAll(nodes []model.Node, find Find) error {
	return walk(nodes, func(n *model.Node) error {
		if n.Kind != model.Call {
			return nil
		}
		m, err := find(n.Model, n.Version)
		switch {
		case n.Model == c.name:
			return c.errorf(n, "graph '%s' uses itself", c.name)
		case err != nil:
			f := fault.Of(err)
			return fault.New(f.Kind, "%s", c.errorf(n, "%s", f.Message).Message).WithCode(f.Code)
		case slices.Contains(m.Uses, c.name):
			return c.errorf(n, "model '%s' is a graph that uses graph '%s' itself", n.Model, c.name)
		case m.Steps:
			return c.errorf(n, "model '%s' keeps state or answers step by step: such a model is no part of a graph", n.Model)
		}
		c.members[reference(n)] = m
		return nil
	})
}

func reference(n *model.Node) string { return n.Model + "@" + n.Version }

// walk calls f for every node, before those within.
func walk(nodes []model.Node, f func(*model.Node) error) error {
	for i := range nodes {
		n := &nodes[i]
		if err := f(n); err != nil {
			return err
		}
		within := slices.Clone(n.Nodes)
		for _, one := range n.Cases {
			within = append(within, one.Node)
		}
		if n.Default != nil {
			within = append(within, *n.Default)
		}
		if err := walk(within, f); err != nil {
			return err
		}
	}
	return nil
}

// summarise says what the graph is: it batches where all of its models do.
func (c *compiler) summarise(m *Member) {
	m.Batches, m.Independent = len(c.members) > 0, true
	uses := map[string]bool{}
	for reference, member := range c.members {
		name, _ := model.Reference(reference)
		uses[name] = true
		for _, used := range member.Uses {
			uses[used] = true
		}
		m.Batches, m.Independent = m.Batches && member.Batches, m.Independent && member.Independent
		if m.MaxRows == 0 || member.MaxRows < m.MaxRows {
			m.MaxRows = member.MaxRows
		}
	}
	if !m.Batches {
		m.MaxRows = 0
	}
	m.Uses = slices.Sorted(maps.Keys(uses))
	c.batches = m.Batches
}

// inputs gives the graph's inputs slots, and completes what is left open of them.
func (c *compiler) inputs(g *Graph, top *scope) error {
	for _, in := range c.spec.Inputs {
		p := model.Port{Name: in.Name, Datatype: in.Datatype, Shape: in.Dims}
		if c.batches && p.Shape != nil {
			p.Shape = append(tensor.Shape{-1}, p.Shape...)
		}
		if err := c.derive(&p); err != nil {
			return err
		}
		if p.Datatype == tensor.Invalid || p.Shape == nil {
			return fault.New(fault.Invalid, "%s: input '%s' needs datatype and dims: no model takes it as it is", c.spec.Source, p.Name)
		}
		g.inputs = append(g.inputs, c.slot(top, p.Name, p))
		g.Signature.Inputs = append(g.Signature.Inputs, p)
	}
	return nil
}

// derive completes an input from the models that take it as it is.
func (c *compiler) derive(p *model.Port) error {
	return walk(c.spec.Nodes, func(n *model.Node) error {
		if n.Kind != model.Call {
			return nil
		}
		m := c.members[reference(n)]
		for i := range m.Signature.Inputs {
			in := &m.Signature.Inputs[i]
			if source(n, in.Name) != p.Name {
				continue
			}
			if p.Datatype == tensor.Invalid {
				p.Datatype = in.Datatype
			}
			if p.Shape == nil {
				p.Shape = slices.Clone(in.Shape)
			}
			shape, ok := merge(p.Shape, in.Shape)
			if p.Datatype != in.Datatype || !ok {
				return c.errorf(n, "input '%s' of the graph is %s %s, but model '%s' takes %s %s", p.Name, p.Datatype, p.Shape, n.Model, in.Datatype, in.Shape)
			}
			p.Shape = shape
		}
		return nil
	})
}

// outputs finds the tensors that the graph answers with.
func (c *compiler) outputs(g *Graph, top *scope) error {
	for i, name := range c.spec.Outputs {
		slot, ok := top.find(name)
		if !ok {
			return fault.New(fault.Invalid, "%s: no node makes the output '%s'; there are %s", c.spec.Source, name, known(top))
		}
		if slices.Contains(c.spec.Outputs[:i], name) {
			return fault.New(fault.Invalid, "%s: output '%s' is there twice", c.spec.Source, name)
		}
		p := c.ports[slot]
		p.Name, p.Symbols = name, nil
		g.outputs = append(g.outputs, slot)
		g.Signature.Outputs = append(g.Signature.Outputs, p)
	}
	return nil
}

// slot gives a tensor a place.
func (c *compiler) slot(s *scope, name string, p model.Port) int {
	p.Name, p.Symbols = name, nil
	c.ports = append(c.ports, p)
	s.slots[name] = len(c.ports) - 1
	return len(c.ports) - 1
}

// take returns the slot of a tensor that a node takes.
func (c *compiler) take(n *model.Node, s *scope, name string) (int, error) {
	slot, ok := s.find(name)
	if !ok {
		return 0, c.errorf(n, "there is no tensor '%s' when it runs; there are %s", name, known(s))
	}
	for _, r := range c.readers {
		if slot < r.below {
			r.slots[slot] = true
		}
	}
	return slot, nil
}

// make gives the tensor that a node makes a slot.
func (c *compiler) make(n *model.Node, s *scope, name string, p model.Port) (int, error) {
	if _, there := s.find(name); there || name == "" {
		return 0, c.errorf(n, "the tensor '%s' is there already: give what the node makes another name", name)
	}
	return c.slot(s, name, p), nil
}

func known(s *scope) string {
	names := map[string]bool{}
	for ; s != nil; s = s.around {
		for name := range s.slots {
			names[name] = true
		}
	}
	return fmt.Sprintf("%q", slices.Sorted(maps.Keys(names)))
}

// errorf says what is wrong with a node.
func (c *compiler) errorf(n *model.Node, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "%s:%d: node '%s': %s", c.spec.Source, n.Line, n.Name, fmt.Sprintf(format, args...)).WithCode("graph_invalid")
}

// sequence checks nodes that run one after the other.
func (c *compiler) sequence(nodes []model.Node, s *scope) (sequence, error) {
	var out sequence
	for i := range nodes {
		n, err := c.node(&nodes[i], s)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func (c *compiler) node(n *model.Node, s *scope) (*node, error) {
	var does step
	var err error
	switch n.Kind {
	case model.Call:
		does, err = c.callNode(n, s)
	case model.Steps:
		does, err = c.sequence(n.Nodes, s)
	case model.Parallel:
		does, err = c.parallelNode(n, s)
	case model.Ensemble:
		does, err = c.ensembleNode(n, s)
	case model.Switch:
		does, err = c.switchNode(n, s)
	case model.Change:
		does, err = c.changeNode(n, s)
	default:
		err = c.errorf(n, "is of no kind")
	}
	return &node{does, n.Name, string(n.Kind)}, err
}

// parallelNode checks branches: none sees what another makes, and what all make is
// there afterwards.
func (c *compiler) parallelNode(n *model.Node, s *scope) (step, error) {
	var p parallel
	made := map[string]int{}
	for i := range n.Nodes {
		own := s.inner()
		branch, err := c.node(&n.Nodes[i], own)
		if err != nil {
			return nil, err
		}
		for name, slot := range own.slots {
			if _, twice := made[name]; twice {
				return nil, c.errorf(&n.Nodes[i], "the tensor '%s' is made by another branch, too", name)
			}
			made[name] = slot
		}
		p = append(p, branch)
	}
	maps.Copy(s.slots, made)
	return p, nil
}
