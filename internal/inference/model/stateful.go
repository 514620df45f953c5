package model

import (
	"encoding/json"
	"strconv"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
)

// How sequences and generations are read, and written for clients.

func (s *section) yamlSequence() *Sequence {
	q := &Sequence{IdleTimeout: s.duration("idle_timeout")}
	s.groups("state", func(t *section) {
		q.States = append(q.States, State{
			Input: t.required("input"), Output: t.required("output"), Datatype: t.datatype(), Dims: t.dims(-1),
			Visible: t.boolean("visible"), InitialDims: t.extents("initial_dims"), Initial: t.values("initial"),
		})
	})
	return s.sequence(q)
}

// sequence checks what both forms of a sequence have in common.
func (s *section) sequence(q *Sequence) *Sequence {
	if len(q.States) == 0 || len(q.States) > maxStates {
		s.fail(s.node.line, s.at("state"), "must list 1 to %d states, got %d", maxStates, len(q.States))
	}
	return q
}

func (s *section) generation() *Generate {
	g := &Generate{}
	s.groups("feedback", func(f *section) {
		g.Feedback = append(g.Feedback, Feedback{Output: f.required("output"), Input: f.required("input")})
	})
	steps, given := s.integer("max_steps", 1, maxSteps)
	if given {
		g.MaxSteps = int(steps)
	}
	s.group("end", func(e *section) {
		g.End = &End{Output: e.required("output")}
		if n := e.find("value"); n != nil {
			g.End.Value = jsonValue(n)
		} else {
			e.fail(e.node.line, e.at("value"), "must be given")
		}
	})
	return g
}

// tritonSequence reads ModelSequenceBatching. Its strategies only say which
// steps share runs, which is found out just in time.
func (s *section) tritonSequence() *Sequence {
	q := &Sequence{IdleTimeout: s.micros("max_sequence_idle_microseconds")}
	s.groups("state", func(t *section) {
		state := State{Input: t.required("input_name"), Output: t.required("output_name"), Datatype: tritonDatatypes[t.enum("data_type", tritonTypes...)], Dims: t.dims(-1)}
		t.groups("initial_state", func(i *section) {
			if state.InitialDims != nil {
				i.fail(i.node.line, i.path, "is given twice: a state begins in one way")
			}
			i.enum("data_type", tritonTypes...)
			i.str("name")
			i.boolean("zero_data")
			state.InitialDims = i.extents("dims")
			i.refuse("give the values as a JSON list in the parameter "+paramInitial+state.Input, "data_file")
		})
		t.ignore("states have buffers of their own", "use_same_buffer_for_input_output", "use_growable_memory")
		q.States = append(q.States, state)
	})
	s.refuse("a step is told from the others by its state", "control_input")
	s.refuse("a model that repeats itself says so with the parameter "+paramGenerate, "iterative_sequence")
	s.ignore("steps of different sequences are batched just in time", "direct", "oldest")
	return s.sequence(q)
}

// tritonDecoupled accepts the policy of models that give several answers for
// those that do.
func (s *section) tritonDecoupled(c *Config) {
	s.group("model_transaction_policy", func(p *section) {
		if p.boolean("decoupled") && c.Generate == nil {
			p.fail(p.node.line, p.at("decoupled"), "is not supported: a request has one answer, unless the parameter %s says which output is fed back", paramGenerate)
		}
	})
}

// tritonInitial takes the initial values of a state from a parameter.
func (s *section) tritonInitial(q *Sequence, input, value string) {
	if q != nil {
		for i := range q.States {
			if q.States[i].Input == input {
				s.embedded(`{"values":`+value+`}`, func(v *section) *Generate {
					q.States[i].Initial = v.values("values")
					return nil
				})
				return
			}
		}
	}
	s.fail(s.node.line, s.path, "%q is not the input of a state", input)
}

// embedded reads a group of settings that is the JSON text of a string.
func (s *section) embedded(value string, read func(*section) *Generate) *Generate {
	root, err := parseJSON([]byte(value))
	if err != nil {
		s.fail(s.node.line, s.path, "must be JSON: %s", err)
		return nil
	}
	inner := &document{source: s.source, syntax: jsonSyntax}
	group := inner.section(s.path, root)
	g := read(group)
	group.end()
	if inner.err != nil && s.err == nil {
		s.err = inner.err
	}
	return g
}

// required returns a string that must be given.
func (s *section) required(key string) string {
	text := s.str(key)
	if text == "" {
		s.fail(s.node.line, s.at(key), "must be given")
	}
	return text
}

// extents returns extents of at least 0; nil where none are given.
func (s *section) extents(key string) tensor.Shape {
	dims := s.integers(key, 0, maxDim)
	if len(dims) > tensor.MaxDims {
		s.fail(s.node.line, s.at(key), "must have at most %d extents, got %d", tensor.MaxDims, len(dims))
	}
	return dims
}

// values returns a list of values as JSON.
func (s *section) values(key string) []string {
	var out []string
	for i, n := range s.all(key) {
		if n.kind != word && n.kind != number && n.kind != text {
			s.fail(n.line, s.at(key)+"["+strconv.Itoa(i)+"]", "must be a value, got %s", n.kind)
			return nil
		}
		out = append(out, jsonValue(n))
	}
	return out
}

// jsonValue returns the value of an element as JSON.
func jsonValue(n *node) string {
	if n.kind != text && json.Valid([]byte(n.text)) {
		return n.text
	}
	return string(tensorjson.AppendText(nil, n.text))
}

// The parts of ModelSequenceBatching that are used.
type (
	jsonSequence struct {
		Idle   int64       `json:"max_sequence_idle_microseconds"`
		States []jsonState `json:"state"`
	}
	jsonState struct {
		Input    string        `json:"input_name"`
		Output   string        `json:"output_name"`
		DataType string        `json:"data_type"`
		Dims     tensor.Shape  `json:"dims"`
		Initial  []jsonInitial `json:"initial_state"`
	}
	jsonInitial struct {
		DataType string       `json:"data_type"`
		Dims     tensor.Shape `json:"dims"`
		Zero     bool         `json:"zero_data"`
		Name     string       `json:"name"`
	}
	jsonTransaction struct {
		Decoupled bool `json:"decoupled"`
	}
)

func (s *Sequence) json() *jsonSequence {
	if s == nil {
		return nil
	}
	out := &jsonSequence{Idle: s.IdleTimeout.Microseconds(), States: []jsonState{}}
	for _, t := range s.States {
		out.States = append(out.States, jsonState{
			Input: t.Input, Output: t.Output, DataType: tritonType(t.Datatype), Dims: append(tensor.Shape{}, t.Dims...),
			Initial: []jsonInitial{{DataType: tritonType(t.Datatype), Dims: append(tensor.Shape{}, t.InitialDims...), Zero: len(t.Initial) == 0, Name: t.Input}},
		})
	}
	return out
}

// text returns the group generate as JSON.
func (g *Generate) text() string {
	type link struct {
		Output string `json:"output"`
		Input  string `json:"input"`
	}
	type end struct {
		Output string          `json:"output"`
		Value  json.RawMessage `json:"value"`
	}
	out := struct {
		Feedback []link `json:"feedback"`
		MaxSteps int    `json:"max_steps"`
		End      *end   `json:"end,omitempty"`
	}{Feedback: []link{}, MaxSteps: g.MaxSteps}
	for _, f := range g.Feedback {
		out.Feedback = append(out.Feedback, link(f))
	}
	if g.End != nil {
		out.End = &end{g.End.Output, json.RawMessage(g.End.Value)}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("model: a struct of strings and numbers did not encode: " + err.Error())
	}
	return string(b)
}
