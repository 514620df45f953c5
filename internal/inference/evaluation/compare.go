package evaluation

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/shadow"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// The sides of a model, as names of segments begin.
const (
	sideIn  = "in"
	sideOut = "out"
)

// OfTensors says whether a name tells segments apart by what was asked or answered.
func OfTensors(by string) bool {
	return strings.HasPrefix(by, sideIn+"/") || strings.HasPrefix(by, sideOut+"/")
}

// element takes NAME or NAME/ELEMENT apart; at is -1 without one.
func element(text string) (name string, at int, ok bool) {
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return text, -1, text != ""
	}
	if n, err := strconv.Atoi(text[i+1:]); err == nil && n >= 0 {
		return text[:i], n, i > 0
	}
	return text, -1, true // the tensor's own name has one
}

// answered is a case with what came of asking.
type answered struct {
	Case
	baseline []tensor.Tensor
	answer   []tensor.Tensor // the candidate's
	failed   error           // why it has none
	before   time.Duration   // the baseline's run took, if that is known
	took     time.Duration   // the candidate's
}

// add compares a case's rows, and appends those that differ to the lines.
func (r *Result) add(a *answered, lines *bytes.Buffer, diff *Diff) error {
	r.Cases++
	if a.Skip != "" {
		r.skip(a.Skip, a.Rows)
		return nil
	}
	if a.failed == nil {
		r.ran(a.before, a.took)
	}
	inputs, was, is := split(a.Inputs, a.Rows), split(a.baseline, a.Rows), split(a.answer, a.Rows)
	for row := range a.Rows {
		values := r.values(&a.Case, inputs(row), was(row))
		if a.failed != nil {
			r.failed(a.failed, a.Altered)
			r.count(true, a.Altered, values)
			if err := r.line(a, row, shadow.Difference{}, values, was(row), nil, lines, diff); err != nil {
				return err
			}
			continue
		}
		d := r.Report.Compare(was(row), only(is(row), was(row), a.Case.Outputs != nil), 1)
		if d.Rows == 0 {
			r.skip(TooLarge, 1)
			continue
		}
		r.count(!d.Agrees(), a.Altered, values)
		if d.Agrees() {
			continue
		}
		if r.Report.Worse(d) {
			r.Report.Keep(shadow.Worst{Difference: d, Champion: fmt.Sprintf("%s/%d", a.Name, row)})
		}
		if err := r.line(a, row, d, values, was(row), is(row), lines, diff); err != nil {
			return err
		}
	}
	return nil
}

// only returns the tensors that were logged: which these are is up to the log's policy.
func only(is, was []tensor.Tensor, logged bool) []tensor.Tensor {
	if !logged {
		return is
	}
	var out []tensor.Tensor
	for i := range is {
		if named(was, is[i].Name) != nil {
			out = append(out, is[i])
		}
	}
	return out
}

// Line is a row that differs, in the file of differences.
type Line struct {
	Name      string            `json:"name"` // of the prediction in the log, or of the file's row
	Row       int64             `json:"row"`  // of the prediction's rows, from 0
	At        string            `json:"at,omitempty"`
	Segments  map[string]string `json:"segments,omitempty"`
	Output    string            `json:"output,omitempty"` // that differs most
	Distance  float64           `json:"distance"`
	Error     *Failure          `json:"error,omitempty"` // why the candidate has no answer
	Baseline  map[string][]any  `json:"baseline,omitempty"`
	Candidate map[string][]any  `json:"candidate,omitempty"`
}

// maxElements is how many elements of an output a line has.
const maxElements = 256

func (r *Result) line(a *answered, row int64, d shadow.Difference, values []string, was, is []tensor.Tensor, lines *bytes.Buffer, diff *Diff) error {
	l := Line{Name: a.Name, Row: row, Output: d.Output, Distance: d.Distance, Baseline: plain(was), Candidate: plain(is)}
	if !a.At.IsZero() {
		l.At = a.At.UTC().Format(time.RFC3339Nano)
	}
	for i, s := range r.Segments {
		if l.Segments == nil {
			l.Segments = map[string]string{}
		}
		l.Segments[s.By] = values[i]
	}
	if a.failed != nil {
		f := fault.Of(a.failed)
		l.Error = &Failure{fault.CodeOf(f), f.Text()}
	}
	diff.Rows++
	diff.has(was)
	diff.has(is)
	return json.NewEncoder(lines).Encode(&l)
}

// has notes the names of outputs.
func (d *Diff) has(outputs []tensor.Tensor) {
	for i := range outputs {
		if at, known := slices.BinarySearch(d.Outputs, outputs[i].Name); !known {
			d.Outputs = slices.Insert(d.Outputs, at, outputs[i].Name)
		}
	}
}

func plain(tensors []tensor.Tensor) map[string][]any {
	if len(tensors) == 0 {
		return nil
	}
	out := map[string][]any{}
	for i := range tensors {
		out[tensors[i].Name] = record.Plain(&tensors[i], maxElements)
	}
	return out
}

// values returns what a row's segments are told apart by.
func (r *Result) values(c *Case, inputs, outputs []tensor.Tensor) []string {
	if len(r.Segments) == 0 {
		return nil
	}
	out := make([]string, len(r.Segments))
	for i, s := range r.Segments {
		side, rest, _ := strings.Cut(s.By, "/")
		value, own := c.Values[s.By]
		switch {
		case own:
		case side == sideIn:
			value = valueOf(inputs, rest, false)
		case side == sideOut:
			value = valueOf(outputs, rest, true)
		}
		out[i] = strings.ToValidUTF8(fault.Clip(value, maxValue), "\ufffd")
	}
	return out
}

// valueOf returns an element of a row's tensor, or for outputs of several numbers the index
// of the greatest, the class that is predicted; "" where there is none.
func valueOf(tensors []tensor.Tensor, name string, class bool) string {
	t, at := named(tensors, name), -1
	if t == nil {
		name, at, _ = element(name)
		if t = named(tensors, name); t == nil {
			return ""
		}
	}
	n, _ := t.Shape.Elements() // it was checked
	if class && at < 0 && n > 1 && t.Datatype != tensor.Bytes {
		return strconv.FormatInt(shadow.Greatest(t), 10)
	}
	i := 0
	for v := range record.Values(t) {
		if i == max(at, 0) {
			return fmt.Sprint(v)
		}
		i++
	}
	return ""
}

// split returns the row of a number of tensors that have so many rows. What has no rows of
// its own belongs to each as it is.
func split(tensors []tensor.Tensor, rows int64) func(row int64) []tensor.Tensor {
	parts := make([][][]byte, len(tensors))
	for i := range tensors {
		if t := &tensors[i]; rows > 1 && len(t.Shape) > 0 && t.Shape[0] == rows {
			parts[i] = cut(t, int(rows))
		}
	}
	return func(row int64) []tensor.Tensor {
		out := make([]tensor.Tensor, len(tensors))
		for i, t := range tensors {
			if parts[i] != nil {
				t.Shape = append(tensor.Shape{1}, t.Shape[1:]...)
				t.Data = parts[i][row]
			}
			out[i] = t
		}
		return out
	}
}

// cut returns the bytes of each row of a tensor.
func cut(t *tensor.Tensor, rows int) [][]byte {
	out := make([][]byte, rows)
	if t.Datatype != tensor.Bytes {
		size := len(t.Data) / rows
		for i := range out {
			out[i] = t.Data[i*size : (i+1)*size]
		}
		return out
	}
	n, _ := t.Shape.Elements() // it was checked
	each, rest := int(n)/rows, t.Data
	for i := range out {
		size := 0
		for range each {
			size += 4 + int(binary.LittleEndian.Uint32(rest[size:]))
		}
		out[i], rest = rest[:size], rest[size:]
	}
	return out
}
