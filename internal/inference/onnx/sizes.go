package onnx

import (
	"fmt"
	"math"

	"sluice/internal/platform/fault"
)

// rule says where an operator's node states how much it will allocate.
type rule struct {
	input     int    // of the node, unless attribute is set
	attribute string // or this attribute
	measure   func(values []float64) float64
	grows     bool // the result multiplies the elements of input 0
}

// rules by operator, of the standard and the ml domain. They hold for all
// versions: what is an input in one version and something else in another is
// harmless to measure in both (Resize's roi is between 0 and 1).
var rules = map[string][]rule{
	"AffineGrid":      {{input: 1, measure: product}},
	"BlackmanWindow":  {{input: 0, measure: product}},
	"CenterCropPad":   {{input: 1, measure: product}},
	"Col2Im":          {{input: 1, measure: product}},
	"ConstantOfShape": {{input: 0, measure: product}},
	"Conv":            {{attribute: "pads", measure: padding}},
	"ConvTranspose": {{attribute: "output_shape", measure: product}, {attribute: "output_padding", measure: product},
		{attribute: "strides", measure: product}, {attribute: "dilations", measure: product}},
	"AveragePool":           {{attribute: "pads", measure: padding}},
	"MaxPool":               {{attribute: "pads", measure: padding}},
	"LpPool":                {{attribute: "pads", measure: padding}},
	"DFT":                   {{input: 1, measure: product}},
	"Expand":                {{input: 1, measure: product}},
	"HammingWindow":         {{input: 0, measure: product}},
	"HannWindow":            {{input: 0, measure: product}},
	"LinearRegressor":       {{attribute: "targets", measure: product}},
	"MaxUnpool":             {{input: 2, measure: product}},
	"MelWeightMatrix":       {{input: 0, measure: product}, {input: 1, measure: product}},
	"Multinomial":           {{attribute: "sample_size", measure: product}},
	"OneHot":                {{input: 1, measure: product}},
	"Pad":                   {{input: 1, measure: padding}, {attribute: "pads", measure: padding}, {attribute: "paddings", measure: padding}},
	"RandomNormal":          {{attribute: "shape", measure: product}},
	"RandomUniform":         {{attribute: "shape", measure: product}},
	"Resize":                {{input: 1, measure: product, grows: true}, {input: 2, measure: product, grows: true}, {input: 3, measure: product}},
	"STFT":                  {{input: 3, measure: product}},
	"Tile":                  {{input: 1, measure: product, grows: true}},
	"TreeEnsemble":          {{attribute: "n_targets", measure: product}},
	"TreeEnsembleRegressor": {{attribute: "n_targets", measure: product}},
	"Upsample":              {{input: 1, measure: product, grows: true}, {attribute: "scales", measure: product, grows: true}},
}

// sizes refuses a node that would allocate more than the limit as far as the
// file says, and makes a Constant node's value known.
func (in *inspector) sizes(n *node, s *scope) error {
	if len(n.domain) > 0 && in.functions[functionID{view(n.domain), view(n.op), view(n.overload)}] != nil {
		return nil
	}
	switch string(n.op) {
	case "Constant":
		in.constantNode(n, s)
		return nil
	case "Range":
		return in.rangeSize(n, s)
	case "Loop":
		return in.loopSize(n, s)
	case "TfIdfVectorizer":
		return in.vocabularySize(n)
	case "FeatureVectorizer":
		return in.featureSize(n)
	}
	for _, r := range rules[string(n.op)] {
		c, ok := in.operand(n, r, s)
		if !ok || c.values == nil && c.elements <= maxKept {
			continue // computed, or of a type that states no size
		}
		size := math.Inf(1) // more values than a tensor can have dimensions
		if c.values != nil {
			size = r.measure(c.values)
		}
		if data, ok := s.find(n.inputs[0]); ok && r.grows {
			size *= float64(data.elements)
		}
		if err := in.allocates(size); err != nil {
			return at(err, "%s", n.source(r))
		}
	}
	return nil
}

// constantNode makes the value of a Constant node known.
func (in *inspector) constantNode(n *node, s *scope) {
	for f := read(n.raw); f.next(); {
		if f.num != nodeAttribute {
			continue
		}
		if c, ok := attributeConstant(f.b, in.limits); ok {
			s.names[view(n.output)] = known{constant: c}
		}
	}
}

// operand returns the constant that a rule looks at.
func (in *inspector) operand(n *node, r rule, s *scope) (constant, bool) {
	if r.attribute != "" {
		return n.attributeValue(r.attribute, in.limits)
	}
	if r.input >= n.inputCount {
		return constant{}, false
	}
	return s.find(n.inputs[r.input])
}

func (in *inspector) allocates(elements float64) error {
	if elements <= float64(in.limits.MaxElements) {
		return nil
	}
	return fault.New(fault.TooLarge, "asks for a tensor of %.6g elements; at most %d are allowed", elements, in.limits.MaxElements)
}

// rangeSize checks Range, which counts from input 0 to input 1 in steps of
// input 2.
func (in *inspector) rangeSize(n *node, s *scope) error {
	var v [3]float64
	for i := range v {
		c, ok := s.find(n.inputs[i])
		if !ok || len(c.values) != 1 {
			return nil
		}
		v[i] = c.values[0]
	}
	if v[2] == 0 {
		return fault.New(fault.Invalid, "has a step of 0")
	}
	return in.allocates(math.Ceil((v[1] - v[0]) / v[2]))
}

// loopSize checks the trip count of a Loop that stacks an output per trip: it
// has more outputs than carried values. Without those, it only takes time.
func (in *inspector) loopSize(n *node, s *scope) error {
	if c, ok := s.find(n.inputs[0]); ok && len(c.values) == 1 && n.outputCount > n.inputCount-2 {
		return at(in.allocates(c.values[0]), "trip count %.80q", n.inputs[0])
	}
	return nil
}

// vocabularySize checks TfIdfVectorizer, whose output is as wide as its
// greatest index says.
func (in *inspector) vocabularySize(n *node) error {
	width := 0.0
	for index := range n.attributeInts("ngram_indexes") {
		if index < 0 {
			return fault.New(fault.Invalid, "attribute %q has the negative index %d", "ngram_indexes", index)
		}
		width = max(width, float64(index)+1)
	}
	return at(in.allocates(width), "attribute %q", "ngram_indexes")
}

// featureSize checks FeatureVectorizer, whose output is as wide as all that
// it says of its inputs.
func (in *inspector) featureSize(n *node) error {
	width := 0.0
	for v := range n.attributeInts("inputdimensions") {
		width += math.Abs(float64(v))
	}
	return at(in.allocates(width), "attribute %q", "inputdimensions")
}

// product is the elements of a shape, or the growth by repeats or scales. A
// negative extent is left to the runtime, which refuses or replaces it.
func product(values []float64) float64 {
	p := 1.0
	for _, v := range values {
		if v < 0 {
			v = 1
		}
		p *= v
	}
	return nonNaN(p)
}

// padding is the least elements of a tensor padded by begins and then ends:
// it has at least one element without.
func padding(values []float64) float64 {
	p, half := 1.0, len(values)/2
	for i := range half {
		p *= max(1, 1+values[i]+values[half+i])
	}
	return nonNaN(p)
}

func nonNaN(v float64) float64 {
	if math.IsNaN(v) {
		return math.Inf(1)
	}
	return v
}

// source names what a rule looks at, for messages.
func (n *node) source(r rule) string {
	if r.attribute != "" {
		return fmt.Sprintf("attribute %q", r.attribute)
	}
	return fmt.Sprintf("input %.80q", n.inputs[r.input])
}
