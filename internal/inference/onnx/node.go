package onnx

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"

	"sluice/internal/platform/fault"
)

// node is a NodeProto as views of the file.
type node struct {
	raw                        []byte
	name, op, domain, overload []byte
	inputs                     [4][]byte // the first ones
	inputCount, outputCount    int
	output                     []byte // the first one
}

func readNode(b []byte) node {
	n := node{raw: b}
	for f := read(b); f.next(); {
		switch f.num {
		case nodeInput:
			if n.inputCount < len(n.inputs) {
				n.inputs[n.inputCount] = f.b
			}
			n.inputCount++
		case nodeOutput:
			if n.outputCount == 0 {
				n.output = f.b
			}
			n.outputCount++
		case nodeName:
			n.name = f.b
		case nodeOp:
			n.op = f.b
		case nodeDomain:
			n.domain = f.b
		case nodeOverload:
			n.overload = f.b
		}
	}
	return n
}

// String names the node for messages.
func (n *node) String() string {
	op := fmt.Sprintf("%.80s", operatorName(canonical(string(n.domain)), string(n.op)))
	if strings.ContainsFunc(op, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		op = fmt.Sprintf("%q", op)
	}
	if len(n.name) == 0 {
		return fmt.Sprintf("node (%s) that makes %.80q", op, n.output)
	}
	return fmt.Sprintf("node %.80q (%s)", n.name, op)
}

// node checks one node and what its attributes hold.
func (in *inspector) node(b []byte, s *scope) error {
	n := readNode(b)
	err := in.operator(&n, s)
	if err == nil {
		err = in.attributes(&n, s)
	}
	if err == nil {
		err = in.sizes(&n, s)
	}
	if err != nil {
		failed := n // so that n itself stays on the stack
		return at(err, "%s", &failed)
	}
	return nil
}

// operator checks that the node's operator is a local function or allowed,
// and counts it.
func (in *inspector) operator(n *node, s *scope) error {
	if len(n.op) == 0 {
		return fault.New(fault.Invalid, "has no operator (op_type)")
	}
	domain := standardDomain
	if len(n.domain) > 0 {
		domain = view(n.domain)
	}
	in.body.nodes++
	in.operators[operatorID{domain, view(n.op)}]++
	if f := in.functions[functionID{domain, view(n.op), view(n.overload)}]; f != nil {
		in.body.call(f)
	} else if allowed, ok := in.limits.Domains[domain]; !ok {
		return fault.New(fault.Unsupported, "operator domain %.80q is not allowed; allowed are %s and local functions of the model",
			domain, strings.Join(slices.Sorted(maps.Keys(in.limits.Domains)), ", "))
	} else if !allowed.Operators[string(n.op)] {
		return fault.New(fault.Unsupported, "operator %.80q of domain %q is not allowed", n.op, domain)
	}
	if _, ok := s.imports[domain]; !ok {
		return fault.New(fault.Invalid, "operator set %.80q is not imported", domain)
	}
	return nil
}

// attributes checks the node's attributes and walks the graphs in them.
func (in *inspector) attributes(n *node, s *scope) error {
	var buffer [16][]byte
	names := buffer[:0]
	for f := read(n.raw); f.next(); {
		if f.num != nodeAttribute {
			continue
		}
		label, err := in.attribute(f.b, s)
		if err == nil && slices.ContainsFunc(names, func(o []byte) bool { return bytes.Equal(o, label) }) {
			err = fault.New(fault.Invalid, "is given more than once")
		}
		if err != nil {
			return at(err, "attribute %.80q", label)
		}
		if names = append(names, label); len(names) > maxAttributes {
			return fault.New(fault.TooLarge, "has more than %d attributes", maxAttributes)
		}
	}
	return nil
}

// maxAttributes is the most attributes of one node; they are compared with
// each other.
const maxAttributes = 64

// attributeTypes is the AttributeType that belongs to each field of a value.
var attributeTypes = [...]uint64{
	2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 22: 11, 14: 13, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 23: 12, 15: 14,
}

const maxAttributeType = 14

// nestingTypes are the types of attributes that hold tensors or graphs.
var nestingTypes = []uint64{
	attributeTypes[attributeTensor], attributeTypes[attributeTensors], attributeTypes[attributeGraph], attributeTypes[attributeGraphs],
	attributeTypes[attributeSparse], attributeTypes[attributeSparses],
}

// attribute checks one attribute and returns its name as a view.
func (in *inspector) attribute(b []byte, s *scope) (label []byte, err error) {
	declared, held, ref := uint64(0), uint64(0), false
	for f := read(b); f.next(); {
		switch f.num {
		case attributeName:
			label = f.b
		case attributeType:
			declared = f.u
		case attributeRef:
			ref = len(f.b) > 0
		}
		if f.num < len(attributeTypes) && attributeTypes[f.num] != 0 {
			if t := attributeTypes[f.num]; held != 0 && held != t {
				return label, fault.New(fault.Invalid, "holds two values at once")
			}
			held = attributeTypes[f.num]
		}
	}
	switch {
	case len(label) == 0:
		return label, fault.New(fault.Invalid, "has no name")
	case declared > maxAttributeType:
		return label, fault.New(fault.Invalid, "has the unknown type %d", int64(declared))
	case declared != 0 && held != 0 && declared != held:
		return label, fault.New(fault.Invalid, "says it has type %d but holds type %d", declared, held)
	case ref && (held != 0 || !in.body.isFunction()):
		return label, fault.New(fault.Invalid, "refers to an attribute of a function, which is possible only in a function and without a value")
	}
	if !slices.Contains(nestingTypes, held) {
		return label, nil // spares a second walk over long lists of numbers
	}
	for f := read(b); f.next(); {
		switch f.num {
		case attributeTensor, attributeTensors:
			_, err = readTensor(f.b, in.limits)
		case attributeSparse, attributeSparses:
			_, err = in.sparse(f.b)
		case attributeGraph, attributeGraphs:
			err = in.graph(f.b, &scope{parent: s, imports: s.imports, names: map[string]known{}})
		}
		if err != nil {
			return label, err
		}
	}
	return label, nil
}

// attributeValue returns the numbers of the node's attribute: of an INT,
// INTS, FLOAT, FLOATS or TENSOR. The constant has no values where they are
// too many to keep.
func (n *node) attributeValue(label string, limits *Limits) (constant, bool) {
	for f := read(n.raw); f.next(); {
		if f.num == nodeAttribute && hasName(f.b, label) {
			return attributeConstant(f.b, limits)
		}
	}
	return constant{}, false
}

func attributeConstant(attribute []byte, limits *Limits) (constant, bool) {
	var values [maxKept]float64
	count, ok := 0, false
	for v := read(attribute); v.next(); {
		element := &elementTypes[typeInt64]
		switch v.num {
		case attributeFloat, attributeFloats:
			element = &elementTypes[typeFloat]
		case attributeInt, attributeInts:
		case attributeTensor:
			t, err := readTensor(v.b, limits)
			return t.constant(v.b), err == nil
		default:
			continue
		}
		ok = true
		for u := range v.numbers(element.kind) {
			if count == maxKept {
				return constant{elements: math.MaxInt64}, true
			}
			values[count] = number(u, element)
			count++
		}
	}
	return constant{int64(count), slices.Clone(values[:count])}, ok
}

// attributeInts yields all numbers of the node's INTS attribute.
func (n *node) attributeInts(label string) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for f := read(n.raw); f.next(); {
			if f.num != nodeAttribute || !hasName(f.b, label) {
				continue
			}
			for v := read(f.b); v.next(); {
				if v.num != attributeInts {
					continue
				}
				for u := range v.numbers(varint) {
					if !yield(int64(u)) {
						return
					}
				}
			}
		}
	}
}

func hasName(attribute []byte, label string) bool {
	return string(stringField(attribute, attributeName)) == label
}
