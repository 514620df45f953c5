package evaluation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/model"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
)

// Version is a version of a model by its number, and by the digest that it had when it was
// chosen.
type Version struct {
	Number string `json:"version"`
	Digest string `json:"digest"`
}

// Request says what is asked, of whom, and what its answers are compared with.
type Request struct {
	Model     string   `json:"model"`
	Candidate Version  `json:"candidate"`
	Baseline  *Version `json:"baseline,omitempty"` // nil: what was logged
	Logged    *Logged  `json:"logged,omitempty"`   // predictions of the log, or else
	File      *File    `json:"file,omitempty"`     // the rows of a file
	// By are what segments of the rows are told apart by, see Case.Values and Tally.
	By      []string      `json:"by,omitempty"`
	Compare shadow.Config `json:"compare"`
	MaxRows int64         `json:"max_rows"` // after so many the evaluation ends
	MaxTime time.Duration `json:"max_time_ns"`
}

// Logged chooses predictions of the log that were answered, for somebody.
type Logged struct {
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`     // up to it, without it
	Sample     float64   `json:"sample"` // share of the predictions, above 0 and at most 1
	Version    string    `json:"version,omitempty"`
	Experiment string    `json:"experiment,omitempty"`
	Arm        string    `json:"arm,omitempty"`
}

// File is a file of rows, of which the evaluation has an object of its own.
type File struct {
	Upload string `json:"upload"` // that it was
	Object string `json:"object"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// Form says how it is read: see Files.
	Form []byte `json:"form"`
	// Columns are those that segments may be told apart by.
	Columns []string `json:"columns,omitempty"`
}

// Bounds of a Request.
const (
	MaxBy      = 8
	MaxHours   = 31 * 24
	maxByName  = 255
	usualRows  = 100_000
	usualTime  = time.Hour
	maxAllowed = 24 * time.Hour
)

// What logged predictions may be told apart by, beside what is in their tensors.
const (
	byVersion    = "version"
	byArm        = "arm"
	byExperiment = "experiment"
)

// Served is a version that can answer.
type Served struct {
	Version
	Inputs, Outputs []model.Port
	// Logged are the inputs that the prediction log has, where they are not Inputs: those that
	// the server has made of features. Asked with them it makes none, so that a case is
	// answered by what was known when it was logged.
	Logged []model.Port
	Rows   bool // its inputs have rows, which it answers one by one
	// Steps says that it keeps state, or answers step by step: such are not evaluated.
	Steps bool
}

// complete puts in what was left open, and says what is wrong with the request. The versions
// are those that it names; baseline is nil where it names none.
func (r *Request) complete(candidate, baseline *Served, maxRows int64, now time.Time) error {
	if r.Compare == (shadow.Config{}) {
		r.Compare = shadow.DefaultConfig()
	}
	r.MaxRows, r.MaxTime = cmp.Or(r.MaxRows, min(usualRows, maxRows)), cmp.Or(r.MaxTime, usualTime)
	var wrong []fault.Detail
	check := func(ok bool, pointer, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fault.Detail{Pointer: pointer, Code: "evaluation_invalid", Message: fmt.Sprintf(format, args...)})
		}
	}
	check(r.MaxRows > 0 && r.MaxRows <= maxRows, "/max_rows", "max_rows is %d, expected 1 to %d", r.MaxRows, maxRows)
	check(r.MaxTime >= time.Second && r.MaxTime <= maxAllowed, "/max_time", "max_time is %s, expected 1s to %s", r.MaxTime, maxAllowed)
	check((r.Logged == nil) != (r.File == nil), "/source", "name either predictions of the log or an upload")
	check(r.Logged != nil || r.Baseline != nil, "/baseline", "the rows of a file have no logged answers: name a version to compare with")
	if l := r.Logged; l != nil {
		check(l.From.Before(l.To) && l.To.Sub(l.From) <= MaxHours*time.Hour, "/source", "from has to be before to, by at most %d hours", MaxHours)
		check(!l.From.After(now), "/source/from", "from is in the future")
		check(l.Sample > 0 && l.Sample <= 1, "/source/sample", "sample is %g, expected more than 0 and at most 1", l.Sample)
	}
	check(len(r.By) <= MaxBy, "/segment_by", "there are %d names, at most %d are possible", len(r.By), MaxBy)
	for i, name := range r.By[:min(len(r.By), MaxBy)] {
		check(!slices.Contains(r.By[:i], name), fmt.Sprintf("/segment_by/%d", i), "%q is there before", fault.Clip(name, 64))
		check(r.known(name, candidate), fmt.Sprintf("/segment_by/%d", i), "there is no %q to tell rows apart by: use %s", fault.Clip(name, 64), r.choices())
	}
	for _, v := range []*Served{candidate, baseline} {
		check(v == nil || !v.Steps, "/candidate", "a version that keeps state, or answers step by step, cannot be asked again row by row")
	}
	check(baseline == nil || alike(r.inputs(candidate), r.inputs(baseline)) && alike(candidate.Outputs, baseline.Outputs), "/baseline",
		"the versions do not take and give the same tensors")
	if err := r.Compare.Validate(); err != nil {
		check(false, "/compare", "%s", fault.Of(err).Message)
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "the evaluation has mistakes; the first: %s", wrong[0].Message).WithCode("evaluation_invalid").WithDetails(wrong...)
}

// inputs returns what the version is asked with.
func (r *Request) inputs(v *Served) []model.Port {
	if r.Logged != nil && v.Logged != nil {
		return v.Logged
	}
	return v.Inputs
}

// known says whether rows can be told apart by a name.
func (r *Request) known(name string, v *Served) bool {
	if len(name) > maxByName {
		return false
	}
	if side, rest, ok := strings.Cut(name, "/"); ok && (side == sideIn || side == sideOut) {
		ports := r.inputs(v)
		if side == sideOut {
			ports = v.Outputs
		}
		tensor, _, ok := element(rest)
		return ok && slices.ContainsFunc(ports, func(p model.Port) bool { return p.Name == tensor })
	}
	if r.File != nil {
		return slices.Contains(r.File.Columns, name)
	}
	return name == byVersion || name == byArm || name == byExperiment
}

// choices says what rows can be told apart by.
func (r *Request) choices() string {
	const tensors = "in/INPUT, in/INPUT/ELEMENT or out/OUTPUT"
	if r.File != nil {
		return "a column of the file, " + tensors
	}
	return "version, arm, experiment, " + tensors
}

func alike(a, b []model.Port) bool {
	return slices.EqualFunc(a, b, func(a, b model.Port) bool {
		return a.Name == b.Name && a.Datatype == b.Datatype && a.Shape.Equal(b.Shape)
	})
}
