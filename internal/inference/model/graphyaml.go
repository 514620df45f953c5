package model

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// ParseGraph reads a graph.yaml. Every node has a name and one of these forms:
//
//	inputs: [x]                       # or {name: x, datatype: FP32, dims: [4]}
//	outputs: [label]
//	nodes:
//	  - {name: a, model: iris@stable, inputs: {input: x}, outputs: {probabilities: p}}
//	  - {name: b, sequence: [node, …]}
//	  - {name: c, parallel: [node, …]}
//	  - {name: d, ensemble: mean, members: [node, …], weights: [2, 1], of: p, as: probabilities}   # or vote
//	  - {name: e, switch: {header: Tier}, cases: [{in: [gold], node: …}], default: node, gives: [p]}
//	  - {name: f, transform: argmax, axis: -1, of: p, as: label}
//
// A switch looks at one of header, attribute, tenant and tensor; its cases are for
// values "in" a list, or numbers "from" and "below". It is as strict as ParseYAML.
func ParseGraph(data []byte, source string) (Graph, error) {
	g := Graph{Source: source}
	_, err := parse(data, source, yamlSyntax, parseYAML, func(s *section) Config {
		left := MaxNodes
		g.Inputs = s.graphInputs()
		g.Outputs = s.texts("outputs")
		g.Nodes = s.nodes("nodes", &left, map[string]bool{})
		return Config{}
	})
	switch {
	case err != nil:
		return Graph{}, err
	case len(g.Nodes) == 0 || len(g.Outputs) == 0:
		return Graph{}, fault.New(fault.Invalid, "%s: a graph needs nodes and outputs", source)
	case len(g.Inputs) > maxPorts || len(g.Outputs) > maxPorts:
		return Graph{}, fault.New(fault.Invalid, "%s: a graph has at most %d inputs and outputs", source, maxPorts)
	}
	return g, nil
}

// graphInputs reads a list of names and ports.
func (s *section) graphInputs() []PortConfig {
	var ports []PortConfig
	for i, n := range s.all("inputs") {
		path := s.at("inputs") + "[" + strconv.Itoa(i) + "]"
		if n.kind != object {
			ports = append(ports, PortConfig{Name: s.strNode(path, n)})
		} else {
			p := s.section(path, n)
			ports = append(ports, PortConfig{Name: p.portName(), Datatype: p.datatype(), Dims: p.dims(-1)})
			p.end()
		}
		name := ports[i].Name
		if name == "" || slices.ContainsFunc(ports[:i], func(p PortConfig) bool { return p.Name == name }) {
			s.fail(n.line, path, "must be a name of its own, got %q", name)
		}
	}
	return ports
}

// nodes reads a list of nodes, of which so many are left; seen are their names.
func (s *section) nodes(key string, left *int, seen map[string]bool) []Node {
	var nodes []Node
	s.groups(key, func(n *section) { nodes = append(nodes, n.graphNode(left, seen)) })
	return nodes
}

// one reads a single node, if it is there.
func (s *section) one(key string, left *int, seen map[string]bool) (n Node, there bool) {
	there = s.group(key, func(sub *section) { n = sub.graphNode(left, seen) })
	return n, there
}

func (s *section) graphNode(left *int, seen map[string]bool) Node {
	n := Node{Name: s.str("name"), Line: s.node.line}
	if *left--; *left == -1 {
		s.fail(n.Line, s.path, "a graph has at most %d nodes", MaxNodes)
	}
	if *left < 0 {
		return n
	}
	if !validNode(n.Name) {
		s.fail(n.Line, s.at("name"), "must be 1 to 64 letters, digits, '-', '_' or '.', got %.80q", n.Name)
	}
	if seen[n.Name] {
		s.fail(n.Line, s.at("name"), "node %q is there twice", n.Name)
	}
	seen[n.Name] = true
	for _, form := range []struct {
		kind Kind
		read func()
	}{
		{Call, func() { s.callNode(&n) }},
		{Steps, func() { n.Nodes = s.nodes("sequence", left, seen) }},
		{Parallel, func() { n.Nodes = s.nodes("parallel", left, seen) }},
		{Ensemble, func() { s.ensembleNode(&n, left, seen) }},
		{Switch, func() { s.switchNode(&n, left, seen) }},
		{Change, func() { s.transformNode(&n) }},
	} {
		if !slices.ContainsFunc(s.node.members, func(m member) bool { return m.name == string(form.kind) }) {
			continue
		}
		if n.Kind != "" {
			s.fail(n.Line, s.path, "node %q is both %s and %s", n.Name, n.Kind, form.kind)
		}
		n.Kind = form.kind
		form.read()
	}
	if n.Kind == "" {
		s.fail(n.Line, s.path, "node %q must have one of model, sequence, parallel, ensemble, switch, transform", n.Name)
	}
	if (n.Kind == Steps || n.Kind == Parallel || n.Kind == Ensemble) && len(n.Nodes) == 0 {
		s.fail(n.Line, s.path, "node %q needs at least one node", n.Name)
	}
	return n
}

func validNode(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

func (s *section) callNode(n *Node) {
	n.Model, n.Version = Reference(s.str("model"))
	if err := ValidName(n.Model); err != nil {
		s.fail(n.Line, s.at("model"), "%s", err)
	}
	n.Inputs, n.Outputs = s.textMap("inputs"), s.textMap("outputs")
}

func (s *section) ensembleNode(n *Node, left *int, seen map[string]bool) {
	n.Combine = s.choice("ensemble", Mean, Vote)
	n.Nodes = s.nodes("members", left, seen)
	n.Of, n.As = s.texts("of"), s.tensorName("as")
	for i, w := range s.texts("weights") {
		v, err := strconv.ParseFloat(w, 64)
		if err != nil || !(v > 0) || v > 1e9 {
			s.fail(n.Line, s.at("weights"), "weight %d must be a number above 0, up to 1e9, got %.40q", i, w)
		}
		n.Weights = append(n.Weights, v)
	}
	if n.Weights == nil {
		n.Weights = slices.Repeat([]float64{1}, len(n.Nodes))
	}
	if len(n.Weights) != len(n.Nodes) {
		s.fail(n.Line, s.at("weights"), "must be as many as the members, %d, got %d", len(n.Nodes), len(n.Weights))
	}
	if len(n.Of) != 1 {
		s.fail(n.Line, s.at("of"), "must be the one tensor that every member gives, got %d", len(n.Of))
	}
}

func (s *section) switchNode(n *Node, left *int, seen map[string]bool) {
	s.group("switch", func(on *section) {
		n.On = On{on.str("header"), on.str("attribute"), on.boolean("tenant"), on.str("tensor")}
		if btoi(n.On.Header != "")+btoi(n.On.Attribute != "")+btoi(n.On.Tenant)+btoi(n.On.Tensor != "") != 1 {
			s.fail(n.Line, s.at("switch"), "must look at one of header, attribute, tenant and tensor")
		}
	})
	values := 0
	s.groups("cases", func(c *section) {
		one := Case{In: c.texts("in"), From: c.real("from"), Below: c.real("below")}
		if values += len(one.In); values > maxCases {
			c.fail(c.node.line, c.path, "the cases of a switch have at most %d values", maxCases)
		}
		ranged := one.From != nil || one.Below != nil
		switch {
		case (len(one.In) > 0) == ranged:
			c.fail(c.node.line, c.path, "a case is for values in a list, or for numbers from and below")
		case ranged && n.On.Tensor == "":
			c.fail(c.node.line, c.path, "only a tensor has numbers")
		}
		node, there := c.one("node", left, seen)
		if one.Node = node; !there {
			c.fail(c.node.line, c.at("node"), "must be given")
		}
		n.Cases = append(n.Cases, one)
	})
	n.Gives = s.texts("gives")
	other, there := s.one("default", left, seen)
	n.Default = &other
	if !there || len(n.Cases) == 0 || len(n.Gives) == 0 {
		s.fail(n.Line, s.path, "a switch needs cases, a default, and what all of them give")
	}
}

func (s *section) transformNode(n *Node) {
	t := &Transform{Kind: s.choice("transform", transforms...)}
	n.Transform, n.Of, n.As = t, s.texts("of"), s.tensorName("as")
	switch t.Kind {
	case Cast, Constant:
		if t.Datatype = s.datatype(); t.Datatype == tensor.Invalid {
			s.fail(n.Line, s.at("datatype"), "must be given")
		}
	case Threshold:
		v := s.real("at")
		if v == nil {
			s.fail(n.Line, s.at("at"), "must be given")
			return
		}
		t.At = *v
	}
	switch t.Kind {
	case Slice, Concat, Softmax, Argmax:
		axis, given := s.integer("axis", -tensor.MaxDims, tensor.MaxDims)
		if t.Axis = int(axis); !given {
			t.Axis = -1
		}
	case Constant:
		t.Dims, t.Values = s.dims(1), s.texts("values")
	}
	if t.Kind == Slice {
		t.From = s.count("from", maxDim)
		if to, given := s.integer("to", 1, maxDim); given {
			end := int(to)
			if t.To = &end; end <= t.From {
				s.fail(n.Line, s.at("to"), "must be above from, %d, got %d", t.From, end)
			}
		}
	}
}

func (s *section) tensorName(key string) string {
	name := s.str(key)
	if name == "" {
		s.fail(s.node.line, s.at(key), "must be given")
	}
	return name
}

// texts returns a list of strings, or the only one; nil where none is given.
func (s *section) texts(key string) []string {
	n := s.find(key)
	switch {
	case n == nil:
		return nil
	case n.kind != list:
		return []string{s.strNode(s.at(key), n)}
	}
	var texts []string
	for i, item := range n.items {
		texts = append(texts, s.strNode(s.at(key)+"["+strconv.Itoa(i)+"]", item))
	}
	return texts
}

// textMap returns names and strings; nil where the key is not given.
func (s *section) textMap(key string) map[string]string {
	var m map[string]string
	s.entries(key, func(name, path string, v *node) { put(&m, name, s.strNode(path, v)) })
	return m
}

// real returns a finite number; nil where none is given.
func (s *section) real(key string) *float64 {
	n := s.find(key)
	if n == nil {
		return nil
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || n.kind != word && n.kind != number {
		s.fail(n.line, s.at(key), "must be a number, got %s", describe(n))
	}
	return &v
}
