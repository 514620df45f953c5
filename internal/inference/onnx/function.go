package onnx

import (
	"fmt"
	"strings"

	"sluice/internal/platform/fault"
)

// functionID is how a node names a model-local function. Its strings are
// views of the file.
type functionID struct{ domain, name, overload string }

// body is the main graph or a local function, for counting what becomes of
// it once every call is replaced by the function's nodes.
type body struct {
	id    functionID // zero for the main graph
	label string
	nodes int // of its own, subgraphs included
	calls map[*body]int

	visiting, done bool
	expanded       int // nodes after expansion
	height         int // nesting of calls below
}

func (b *body) isFunction() bool { return b.id.name != "" }

func (b *body) call(f *body) {
	if b.calls == nil {
		b.calls = map[*body]int{}
	}
	b.calls[f]++
}

// declare makes a function known by its name, before any node is checked:
// functions may call each other in any order.
func (in *inspector) declare(b []byte) (*body, error) {
	id := functionID{domain: standardDomain}
	for f := read(b); f.next(); {
		switch f.num {
		case functionName:
			id.name = view(f.b)
		case functionDomain:
			id.domain = canonical(view(f.b))
		case functionOverload:
			id.overload = view(f.b)
		}
	}
	label := fmt.Sprintf("%.80q of domain %.80q", id.name, id.domain)
	_, reserved := in.limits.Domains[id.domain]
	switch {
	case id.name == "":
		return nil, fault.New(fault.Invalid, "a function of domain %.80q has no name", id.domain)
	case reserved || strings.HasPrefix(id.domain, standardDomain):
		return nil, fault.New(fault.Unsupported, "function %s would redefine an operator: a function needs a domain of its own", label)
	case in.functions[id] != nil:
		return nil, fault.New(fault.Invalid, "function %s is defined more than once", label)
	}
	in.functions[id] = &body{id: id, label: label}
	return in.functions[id], nil
}

// function checks what a function holds.
func (in *inspector) function(b []byte) error {
	s := &scope{imports: map[string]int64{}, names: map[string]known{}}
	for f := read(b); f.next(); {
		var err error
		switch f.num {
		case functionOpset:
			err = in.opset(f.b, s.imports)
		case functionDefault:
			var label []byte
			label, err = in.attribute(f.b, s)
			err = at(err, "attribute %.80q", label)
		case functionValue:
			_, err = in.declaration(f.b)
			err = at(err, "value")
		}
		if err != nil {
			return err
		}
	}
	for f := read(b); f.next(); {
		if f.num == functionNode {
			if err := in.node(f.b, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// expand computes the size of the body with every call replaced, and refuses
// what recurses, nests too deep or grows too large. Each body is computed
// once; the recursion is no deeper than there are functions.
func (in *inspector) expand(b *body) error {
	if b.done {
		return nil
	}
	if b.visiting {
		return fault.New(fault.Invalid, "function %s calls itself", b.label)
	}
	b.visiting, b.expanded = true, b.nodes
	for f, times := range b.calls {
		if err := in.expand(f); err != nil {
			return err
		}
		b.height = max(b.height, f.height+1)
		// Each factor is at most MaxNodes, so that the product fits.
		b.expanded = min(b.expanded+times*f.expanded, in.limits.MaxNodes+1)
	}
	b.visiting, b.done = false, true
	switch {
	case b.height > in.limits.MaxDepth:
		return fault.New(fault.TooLarge, "calls of local functions nest more than %d deep below %s", in.limits.MaxDepth, b.label)
	case b.expanded > in.limits.MaxNodes:
		return fault.New(fault.TooLarge, "%s has more than %d nodes once local functions are expanded", b.label, in.limits.MaxNodes)
	}
	return nil
}
