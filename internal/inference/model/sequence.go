package model

import (
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
)

// Sequence makes a model stateful: what each step of a sequence hands to the
// next one. The server carries it, so clients do not see these ports.
type Sequence struct {
	// IdleTimeout is after how long without a step a sequence is forgotten;
	// resolved, it is never 0.
	IdleTimeout time.Duration
	States      []State
}

// State is an output that is an input of the next step.
type State struct {
	Input, Output string
	Datatype      tensor.Datatype // Invalid: as in the model
	Dims          tensor.Shape    // without the batch dimension; nil: as in the model
	// Visible says that clients get the output, too.
	Visible bool
	// InitialDims are the extents before the first step; nil: Dims, where none
	// of them vary.
	InitialDims tensor.Shape
	// Initial are the values before the first step, as JSON: none for zeros, or
	// one for all elements, or all of them.
	Initial []string
	// First is one row of Initial in wire form; only of a resolved State.
	First []byte
}

// Generate makes a model generative: one request runs it step by step.
type Generate struct {
	Feedback []Feedback
	MaxSteps int // resolved, it is never 0
	End      *End
}

// Feedback is an output of each step that is an input of the next one, and that
// clients give for the first.
type Feedback struct{ Output, Input string }

// End ends a generation behind the step in which every element of the output
// has the value.
type End struct {
	Output string
	Value  string // as JSON
	Data   []byte // the value in wire form; only of a resolved End
}

// Bounds and defaults of sequences and generations.
const (
	DefaultIdleTimeout = time.Minute
	DefaultMaxSteps    = 256
	maxSteps           = 1 << 20
	maxStates          = 256
	maxStateBytes      = 256 << 20 // of the first step
)

// Visible returns what clients give and get of a model with the resolved
// configuration and signature: all but the state that the server carries.
func (c *Config) Visible(sig Signature) Signature {
	if c.Sequence == nil {
		return sig
	}
	return Signature{
		Inputs:  slices.DeleteFunc(slices.Clone(sig.Inputs), func(p Port) bool { return c.Sequence.takes(p.Name) }),
		Outputs: slices.DeleteFunc(slices.Clone(sig.Outputs), func(p Port) bool { return c.Sequence.hides(p.Name) }),
	}
}

// takes reports whether the server gives the input.
func (s *Sequence) takes(input string) bool {
	return s != nil && slices.ContainsFunc(s.States, func(t State) bool { return t.Input == input })
}

// hides reports whether the server keeps the output to itself.
func (s *Sequence) hides(output string) bool {
	return s != nil && slices.ContainsFunc(s.States, func(t State) bool { return t.Output == output && !t.Visible })
}

// sequence checks the states against the signature and fills in what is open.
func (r *resolver) sequence(Defaults) error {
	q := r.cfg.Sequence
	if q == nil {
		return nil
	}
	if q.IdleTimeout == 0 {
		q.IdleTimeout = DefaultIdleTimeout
	}
	for i := range q.States {
		s := &q.States[i]
		for _, other := range q.States[:i] {
			if other.Input == s.Input || other.Output == s.Output {
				return r.errorf("state %q to %q: each input and output can be of one state only", s.Output, s.Input)
			}
		}
		if slices.ContainsFunc(r.cfg.Inputs, func(p PortConfig) bool { return p.Name == s.Input }) {
			return r.errorf("input %q is a state, which the server gives: leave it out of the inputs", s.Input)
		}
		s.Visible = s.Visible || slices.ContainsFunc(r.cfg.Outputs, func(p PortConfig) bool { return p.Name == s.Output })
		if err := r.state(s); err != nil {
			return err
		}
	}
	if seen := r.cfg.Visible(r.sig); len(seen.Inputs) == 0 || len(seen.Outputs) == 0 {
		return r.errorf("every input or every output is state: clients need one of each that is not")
	}
	return nil
}

func (r *resolver) state(s *State) error {
	in, out, err := r.link("state", s.Output, s.Input)
	if err != nil {
		return err
	}
	if s.Datatype != tensor.Invalid && s.Datatype != in.Datatype {
		return r.errorf("state %q has datatype %s, but the model has %s", s.Input, s.Datatype, in.Datatype)
	}
	s.Datatype = in.Datatype
	dims, from := r.row(in), r.row(out)
	if s.Dims == nil {
		s.Dims = slices.Clone(dims)
	}
	if !fits(s.Dims, dims) || !fits(s.Dims, from) {
		return r.errorf("state %q has dims %s, but input %q of the model has %s and output %q %s", s.Input, s.Dims, in.Name, dims, out.Name, from)
	}
	for i, d := range dims {
		if s.Dims[i] == -1 {
			s.Dims[i] = max(d, from[i])
		}
	}
	return r.initial(s)
}

// row returns a port's shape without the batch dimension.
func (r *resolver) row(p *Port) tensor.Shape { return p.dims(*r.cfg.MaxBatchSize) }

// link returns the input and the output of which one feeds the other.
func (r *resolver) link(what, output, input string) (in, out *Port, err error) {
	i, o := r.sig.Input(input), r.sig.Output(output)
	switch {
	case i < 0:
		return nil, nil, r.errorf("%s: input %q is not one of the model's: it has %s", what, input, names(r.sig.Inputs))
	case o < 0:
		return nil, nil, r.errorf("%s: output %q is not one of the model's: it has %s", what, output, names(r.sig.Outputs))
	}
	in, out = &r.sig.Inputs[i], &r.sig.Outputs[o]
	switch {
	case in.Datatype != out.Datatype:
		return nil, nil, r.errorf("%s: output %q is %s, but input %q takes %s", what, output, out.Datatype, input, in.Datatype)
	case !fits(r.row(in), r.row(out)):
		return nil, nil, r.errorf("%s: output %q has dims %s, but input %q takes %s", what, output, r.row(out), input, r.row(in))
	}
	return in, out, nil
}

// initial makes the wire form of what a sequence begins with.
func (r *resolver) initial(s *State) error {
	if s.InitialDims == nil {
		s.InitialDims = slices.Clone(s.Dims)
	}
	if !fits(s.InitialDims, s.Dims) || slices.Contains(s.InitialDims, -1) {
		return r.errorf("state %q needs initial dims without -1 that agree with %s, got %s", s.Input, s.Dims, s.InitialDims)
	}
	elements, err := s.InitialDims.Elements()
	width := int64(max(s.Datatype.Size(), 4))
	if err != nil || elements > maxStateBytes/width {
		return r.errorf("state %q has more than %d bytes", s.Input, maxStateBytes)
	}
	switch n := int64(len(s.Initial)); n {
	case 0:
		if s.Datatype != tensor.Bytes {
			width = int64(s.Datatype.Size())
		}
		s.First = make([]byte, elements*width) // an empty string is four zeros
		return nil
	case 1, elements:
	default:
		return r.errorf("state %q has %d initial values: give one for all, or %d", s.Input, n, elements)
	}
	values := s.Initial
	if len(values) == 1 {
		values = slices.Repeat(values, int(elements))
	}
	if s.First, err = wire(s.Datatype, values); err != nil {
		return r.errorf("state %q: initial values: %s", s.Input, err)
	}
	return nil
}

// wire returns values that are given as JSON in wire form.
func wire(d tensor.Datatype, values []string) ([]byte, error) {
	data, _, err := tensorjson.Decode(nil, d, tensor.Shape{int64(len(values))}, []byte("["+strings.Join(values, ",")+"]"))
	return data, err
}

// generate checks the step loop against the signature and fills in what is open.
func (r *resolver) generate(Defaults) error {
	g := r.cfg.Generate
	if g == nil {
		return nil
	}
	if g.MaxSteps == 0 {
		g.MaxSteps = DefaultMaxSteps
	}
	seen := r.cfg.Visible(r.sig)
	for i, f := range g.Feedback {
		if _, _, err := r.link("feedback", f.Output, f.Input); err != nil {
			return err
		}
		if seen.Input(f.Input) < 0 {
			return r.errorf("feedback: input %q is a state already", f.Input)
		}
		if slices.ContainsFunc(g.Feedback[:i], func(o Feedback) bool { return o.Input == f.Input }) {
			return r.errorf("feedback: input %q is fed twice", f.Input)
		}
	}
	if len(g.Feedback) == 0 && r.cfg.Sequence == nil {
		return r.errorf("generate: every step would be the same: name an output that is fed back, or a state")
	}
	if g.End == nil {
		return nil
	}
	o := r.sig.Output(g.End.Output)
	if o < 0 {
		return r.errorf("generate.end: output %q is not one of the model's: it has %s", g.End.Output, names(r.sig.Outputs))
	}
	var err error
	if g.End.Data, err = wire(r.sig.Outputs[o].Datatype, []string{g.End.Value}); err != nil {
		return r.errorf("generate.end: output %q cannot have the value %.80s: %s", g.End.Output, g.End.Value, err)
	}
	return nil
}

// warmStates gives a warm-up request the states, as before the first step.
func (r *resolver) warmStates(w *Warmup) {
	if r.cfg.Sequence == nil {
		return
	}
	for _, s := range r.cfg.Sequence.States {
		put(&w.Inputs, s.Input, WarmupInput{Datatype: s.Datatype, Dims: slices.Clone(s.InitialDims)})
	}
}

func (s *Sequence) clone() *Sequence {
	if s == nil {
		return nil
	}
	c := *s
	c.States = slices.Clone(s.States)
	for i := range c.States {
		c.States[i].Dims = slices.Clone(c.States[i].Dims)
		c.States[i].InitialDims = slices.Clone(c.States[i].InitialDims)
	}
	return &c
}

func (g *Generate) clone() *Generate {
	if g == nil {
		return nil
	}
	c := *g
	c.Feedback = slices.Clone(g.Feedback)
	if g.End != nil {
		end := *g.End
		c.End = &end
	}
	return &c
}
