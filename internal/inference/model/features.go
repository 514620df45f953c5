package model

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"sluice/internal/inference/tensor"
)

// paramFeatures is the parameter of Triton's configuration for Config.Features: the
// group features of config.yaml, as JSON.
const paramFeatures = "sluice.features"

// Features says which inputs the server takes from the feature store where a request
// leaves them out. Clients give the entities instead.
type Features struct {
	// Timeout bounds the reading for one request; resolved, it is never 0.
	Timeout time.Duration
	// OnFailure is FeatureDefault or FeatureError: what becomes of a request where the
	// store cannot be read in time.
	OnFailure string
	Inputs    []FeatureInput
}

// FeatureInput is an input that is made of an entity's features, one after another, for
// each row.
type FeatureInput struct {
	Input    string // of the model
	View     string // of the tenant whose request it is
	Features []string
	Entity   Entity
	// MaxAge is how long after its event time a value counts; 0 leaves it to the view.
	MaxAge time.Duration
	// OnMissing is FeatureDefault or FeatureError: what becomes of a request where a value is
	// not there, or too old.
	OnMissing string
}

// Entity says where a request has whom its features are about: in an input of one
// element for each row, or in a header, for all of them.
type Entity struct {
	Input    string
	Datatype tensor.Datatype // of Input: Bytes or Int64; resolved, it is one of them
	Header   string
}

// What is done where a value is missing.
const (
	FeatureDefault = "default"
	FeatureError   = "error"
)

// DefaultFeatureTimeout is the one of a configuration without.
const DefaultFeatureTimeout = 100 * time.Millisecond

const (
	maxFeatureInputs = 64
	maxFeatures      = 256 // of an input
)

// Takes returns what is said of an input, nil for nothing.
func (f *Features) Takes(input string) *FeatureInput {
	if f == nil {
		return nil
	}
	if i := slices.IndexFunc(f.Inputs, func(in FeatureInput) bool { return in.Input == input }); i >= 0 {
		return &f.Inputs[i]
	}
	return nil
}

// Names reports whether an input of a request has entities.
func (f *Features) Names(input string) bool {
	return slices.ContainsFunc(f.Inputs, func(in FeatureInput) bool { return in.Entity.Input == input && input != "" })
}

// features reads the group.
func (s *section) features() *Features {
	f := &Features{Timeout: s.duration("timeout"), OnFailure: s.choice("on_failure", FeatureDefault, FeatureError)}
	s.entries("inputs", func(name, path string, v *node) {
		in := s.section(path, v)
		i := FeatureInput{Input: name, View: in.required("view"), MaxAge: in.duration("max_age"), OnMissing: in.choice("on_missing", FeatureDefault, FeatureError)}
		for at, n := range in.all("features") {
			i.Features = append(i.Features, in.strNode(in.at("features")+"["+strconv.Itoa(at)+"]", n))
		}
		if !in.group("entity", func(e *section) {
			i.Entity = Entity{Input: e.str("input"), Header: e.str("header"), Datatype: e.datatype()}
		}) || (i.Entity.Input == "") == (i.Entity.Header == "") {
			in.fail(v.line, in.at("entity"), "must be one of input and header")
		}
		if i.Entity.Header != "" && i.Entity.Datatype != tensor.Invalid || !slices.Contains([]tensor.Datatype{tensor.Invalid, tensor.Bytes, tensor.Int64}, i.Entity.Datatype) {
			in.fail(v.line, in.at("entity.datatype"), "must be BYTES or INT64, of an input")
		}
		if len(i.Features) == 0 || len(i.Features) > maxFeatures {
			in.fail(v.line, in.at("features"), "must name 1 to %d features of the view", maxFeatures)
		}
		in.end()
		f.Inputs = append(f.Inputs, i)
	})
	if len(f.Inputs) == 0 || len(f.Inputs) > maxFeatureInputs {
		s.fail(s.node.line, s.at("inputs"), "must be 1 to %d inputs of the model", maxFeatureInputs)
	}
	return f
}

// text returns the group as JSON.
func (f *Features) text() string {
	type entity struct {
		Input    string `json:"input,omitempty"`
		Datatype string `json:"datatype,omitempty"`
		Header   string `json:"header,omitempty"`
	}
	type input struct {
		View      string   `json:"view"`
		Features  []string `json:"features"`
		Entity    entity   `json:"entity"`
		MaxAge    string   `json:"max_age,omitempty"`
		OnMissing string   `json:"on_missing,omitempty"`
	}
	out := struct {
		Timeout   string           `json:"timeout,omitempty"`
		OnFailure string           `json:"on_failure,omitempty"`
		Inputs    map[string]input `json:"inputs"`
	}{spanText(f.Timeout), f.OnFailure, map[string]input{}}
	for _, i := range f.Inputs {
		e := entity{Input: i.Entity.Input, Header: i.Entity.Header}
		if i.Entity.Datatype != tensor.Invalid {
			e.Datatype = i.Entity.Datatype.String()
		}
		out.Inputs[i.Input] = input{i.View, i.Features, e, spanText(i.MaxAge), i.OnMissing}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("model: a struct of texts did not encode: " + err.Error())
	}
	return string(b)
}

func spanText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// features checks the inputs that come from the feature store, and fills what is open.
func (r *resolver) features(Defaults) error {
	f := r.cfg.Features
	if f == nil {
		return nil
	}
	if r.cfg.Sequence != nil || r.cfg.Generate != nil {
		return r.errorf("features: a model that keeps state or answers step by step takes none: each of its steps is a request")
	}
	if f.Timeout == 0 {
		f.Timeout = DefaultFeatureTimeout
	}
	if f.OnFailure == "" {
		f.OnFailure = FeatureError
	}
	entities := map[string]tensor.Datatype{}
	for i := range f.Inputs {
		in := &f.Inputs[i]
		at := find(r.sig.Inputs, in.Input)
		if at < 0 {
			return r.errorf("features: input %q is not one of the model's: it has %s", in.Input, names(r.sig.Inputs))
		}
		if d := r.sig.Inputs[at].Datatype; d == tensor.FP16 || d == tensor.BF16 {
			return r.errorf("features: input %q is of %s, which features cannot be", in.Input, d)
		}
		if in.OnMissing == "" {
			in.OnMissing = FeatureDefault
		}
		if e := &in.Entity; e.Input != "" {
			if e.Datatype == tensor.Invalid {
				e.Datatype = tensor.Bytes
			}
			if find(r.sig.Inputs, e.Input) >= 0 {
				return r.errorf("features: the entity's input %q is one of the model's own: give it another name", e.Input)
			}
			if before, there := entities[e.Input]; there && before != e.Datatype {
				return r.errorf("features: the entity's input %q has two datatypes", e.Input)
			}
			entities[e.Input] = e.Datatype
		}
	}
	return nil
}

// Asked returns what clients give and get of a model with the resolved configuration,
// whose own signature is sig: entities in place of the inputs that the server fetches,
// and no state.
func (c *Config) Asked(sig Signature) Signature {
	sig = c.Visible(sig)
	if c.Features == nil {
		return sig
	}
	sig.Inputs = slices.DeleteFunc(slices.Clone(sig.Inputs), func(p Port) bool { return c.Features.Takes(p.Name) != nil })
	for _, in := range c.Features.Inputs {
		if e := in.Entity; e.Input != "" && find(sig.Inputs, e.Input) < 0 {
			shape := tensor.Shape{1}
			if c.MaxBatchSize != nil && *c.MaxBatchSize > 0 {
				shape = tensor.Shape{-1, 1}
			}
			sig.Inputs = append(sig.Inputs, Port{Name: e.Input, Datatype: e.Datatype, Shape: shape})
		}
	}
	return sig
}

func (f *Features) clone() *Features {
	if f == nil {
		return nil
	}
	c := *f
	c.Inputs = slices.Clone(f.Inputs)
	return &c
}
