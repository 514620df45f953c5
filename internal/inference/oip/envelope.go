package oip

import (
	"math"
	"strconv"
	"time"
	"unsafe"

	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// envelope is the JSON part of an inference request. Its strings, but for the
// id, are views of the request's body. It is pooled and keeps its memory.
type envelope struct {
	id           string
	seen         fields // of parameters
	timeout      time.Duration
	priority     int
	sequence     serve.Sequence
	maxSteps     int
	binaryOutput bool // parameters.binary_data_output
	inputs       []inputSpec
	outputs      []outputSpec
	// data holds the tensors that came as JSON, in binary form; nil if none. It
	// counts in the account.
	data    *tensor.Slab
	account *budget.Account
}

// inputSpec is one input as the client describes it.
type inputSpec struct {
	name     string
	datatype tensor.Datatype
	shape    tensor.Shape
	seen     fields
	// start and end are its data's place in envelope.data, where it came as
	// JSON, or binarySize its length behind the JSON part.
	start, end int
	binarySize uint64
}

// outputSpec is one output as the client asks for it.
type outputSpec struct {
	name    string
	seen    fields
	binary  bool // parameters.binary_data
	classes int  // parameters.classification; 0 means none
}

// fields is the set of an object's known names that were seen.
type fields uint32

const (
	fieldID fields = 1 << iota
	fieldName
	fieldShape
	fieldDatatype
	fieldData
	fieldParameters
	fieldInputs
	fieldOutputs
	fieldBinarySize
	fieldBinary
	fieldClassification
	fieldSequenceID
	fieldSequenceStart
	fieldSequenceEnd
	fieldPriority
	fieldTimeout
	fieldSequenceResume
	fieldMaxSteps
)

// parameters are the request's parameters with a meaning.
var parameters = map[string]fields{
	"sequence_id": fieldSequenceID, "sequence_start": fieldSequenceStart, "sequence_end": fieldSequenceEnd,
	"sequence_resume": fieldSequenceResume, "max_steps": fieldMaxSteps,
	"priority": fieldPriority, "timeout": fieldTimeout, "binary_data_output": fieldBinary,
}

// once adds a field, and fails where it is there already: of two values, the
// client would not know which one counts.
func (f *fields) once(field fields, name []byte) error {
	if *f&field != 0 {
		return fault.New(fault.Invalid, "%q is given twice", name)
	}
	*f |= field
	return nil
}

func (f fields) has(field fields) bool { return f&field != 0 }

// reset empties the envelope for its next use.
func (e *envelope) reset() {
	e.data.Release()
	for i := range e.inputs {
		e.inputs[i] = inputSpec{shape: e.inputs[i].shape[:0]}
	}
	clear(e.outputs)
	*e = envelope{inputs: e.inputs[:0], outputs: e.outputs[:0]}
}

// read fills an empty envelope from the JSON text of a request to v.
func (e *envelope) read(text []byte, v *serve.Version, account *budget.Account) error {
	e.account = account
	s := tensorjson.NewScanner(text)
	var seen fields
	err := s.Object(func(name []byte) (err error) {
		switch string(name) {
		case "id":
			if err = seen.once(fieldID, name); err == nil {
				e.id, err = copyText(&s, "id")
			}
		case "parameters":
			if err = seen.once(fieldParameters, name); err == nil {
				err = s.Object(func(name []byte) error { return e.readParameter(&s, name, v) })
			}
		case "inputs":
			if err = seen.once(fieldInputs, name); err == nil {
				err = e.readInputs(&s, v)
			}
		case "outputs":
			if err = seen.once(fieldOutputs, name); err == nil {
				err = e.readOutputs(&s, v)
			}
		default:
			err = s.Skip()
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && !seen.has(fieldInputs) {
		err = fault.New(fault.Invalid, `"inputs" is missing: expected an array of the inputs of model '%s'`, v.Name)
	}
	return err
}

// copyText reads a string that outlives the request's body.
func copyText(s *tensorjson.Scanner, what string) (string, error) {
	text, err := s.Text()
	if err != nil {
		return "", within(what, err)
	}
	return string(text), nil
}

// viewText reads a string as a view of the request's body.
func viewText(s *tensorjson.Scanner) (string, error) {
	text, err := s.Text()
	return unsafe.String(unsafe.SliceData(text), len(text)), err
}

// within says in which part of the request an error is.
func within(part string, err error) error {
	e := *fault.Of(err)
	e.Message = part + ": " + e.Message
	return &e
}

// readParameter reads one parameter of the request. Custom ones may be given
// to any model; none here uses them.
func (e *envelope) readParameter(s *tensorjson.Scanner, name []byte, v *serve.Version) (err error) {
	if field := parameters[string(name)]; field != 0 {
		if err := e.seen.once(field, name); err != nil {
			return err
		}
	}
	var n uint64
	switch string(name) {
	case "sequence_id", "sequence_start", "sequence_end", "sequence_resume":
		err = e.readSequence(s, string(name), v)
	case "max_steps":
		if !v.Generative() {
			return customParameter(s, name)
		}
		n, err = s.Uint()
		e.maxSteps = int(min(n, math.MaxInt32))
	case "priority":
		n, err = s.Uint()
		e.priority = int(min(n, math.MaxInt32))
	case "timeout":
		n, err = s.Uint()
		e.timeout = time.Duration(min(n, math.MaxInt64/uint64(time.Microsecond))) * time.Microsecond
	case "binary_data_output":
		e.binaryOutput, err = s.Bool()
	default:
		err = customParameter(s, name)
	}
	if err != nil {
		return within("parameter '"+clip(name)+"'", err)
	}
	return nil
}

// readSequence reads what the request says of its sequence.
func (e *envelope) readSequence(s *tensorjson.Scanner, name string, v *serve.Version) (err error) {
	q := &e.sequence
	switch name {
	case "sequence_id":
		q.ID, err = sequenceID(s)
	case "sequence_start":
		q.Start, err = s.Bool()
	case "sequence_end":
		q.End, err = s.Bool()
	default:
		q.Resume, err = s.Bool()
	}
	if err == nil && *q != (serve.Sequence{}) && !v.Stateful() {
		err = fault.New(fault.Invalid, "model '%s' keeps no state between requests, so it takes no sequences: leave it out", v.Name)
	}
	return err
}

// sequenceID reads the name of a sequence, a number or a string; 0 and "" are
// none.
func sequenceID(s *tensorjson.Scanner) (string, error) {
	if s.Peek() == '"' {
		text, err := s.Text()
		if err != nil || len(text) == 0 {
			return "", err
		}
		return serve.TextMark + string(text), nil
	}
	n, err := s.Uint()
	if err != nil || n == 0 {
		return "", err
	}
	return strconv.FormatUint(n, 10), nil
}

// customParameter reads the value of a parameter without a meaning here.
func customParameter(s *tensorjson.Scanner, name []byte) error {
	if len(name) >= 7 && string(name[:7]) == "triton_" {
		return fault.New(fault.Invalid, "parameter keys starting with 'triton_' are reserved and must not be given")
	}
	switch s.Peek() {
	case '{', '[', 'n':
		return fault.New(fault.Invalid, "expected a string, a number or a boolean")
	}
	return s.Skip()
}

// clip returns as much of what a client sent as an error may repeat.
func clip(sent []byte) string {
	const most = 200
	return fault.Clip(string(sent[:min(len(sent), most+1)]), most)
}
