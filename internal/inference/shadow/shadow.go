// Package shadow compares what a candidate answers with what the champion has
// answered to the same request, tensor by tensor: would anybody have noticed?
//
// A Report takes a fixed amount of memory however much is compared, and reports
// of many nodes and minutes merge. Comparing allocates nothing and costs a pass
// over the elements, which are read in wire form; how many of an output are
// compared is bounded, and what is left out is counted.
//
// The rules for numbers: two NaNs are equal, as are two zeros; where one side
// alone is NaN, or one is infinite and the other is not just so, the element is
// Unlike and has no distance. Among the greatest of a row NaN comes last, and of
// equal elements the first is greater.
package shadow

import (
	"math"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Bounds of a Report.
const (
	MaxOutputs = 64
	MaxTop     = 32
)

// Config says what is compared.
type Config struct {
	// Top is how many of the greatest elements of a row are compared, 1 to MaxTop.
	Top int `json:"top"`
	// MaxElements is how many elements of an output are compared at most.
	MaxElements int64 `json:"max_elements"`
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Top < 1 || c.Top > MaxTop || c.MaxElements < 1 {
		return fault.New(fault.Unprocessable, "top is %d and max_elements %d, expected 1 to %d and at least 1", c.Top, c.MaxElements, MaxTop).WithCode("shadow_config")
	}
	return nil
}

// Report sums up comparisons. It is not safe for concurrent use.
type Report struct {
	Config
	Answers int64              `json:"answers"` // pairs of answers that were compared
	Outputs map[string]*Output `json:"outputs"` // by name
	// Unnamed counts outputs beyond MaxOutputs, which are not compared.
	Unnamed int64 `json:"unnamed,omitempty"`
}

// NewReport returns a report of nothing.
func NewReport(c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Report{Config: c, Outputs: map[string]*Output{}}, nil
}

// Compare adds an answer of the champion, and the candidate's to the same
// request. The tensors are only read, and not kept.
func (r *Report) Compare(champion, candidate []tensor.Tensor) {
	r.Answers++
	for i := range champion {
		a := &champion[i]
		if out := r.output(a.Name); out != nil {
			out.compare(a, named(candidate, a.Name), r.Config)
		}
	}
	for i := range candidate {
		b := &candidate[i]
		if named(champion, b.Name) == nil {
			if out := r.output(b.Name); out != nil {
				out.compare(nil, b, r.Config)
			}
		}
	}
}

func named(tensors []tensor.Tensor, name string) *tensor.Tensor {
	for i := range tensors {
		if tensors[i].Name == name {
			return &tensors[i]
		}
	}
	return nil
}

func (r *Report) output(name string) *Output {
	out := r.Outputs[name]
	if out == nil {
		if len(r.Outputs) >= MaxOutputs {
			r.Unnamed++
			return nil
		}
		out = new(Output)
		r.Outputs[name] = out
	}
	return out
}

// Merge adds another report of the same configuration.
func (r *Report) Merge(o *Report) error {
	if r.Config != o.Config {
		return fault.New(fault.Invalid, "reports of %+v and %+v do not add up", r.Config, o.Config).WithCode("shadow_config")
	}
	r.Answers += o.Answers
	r.Unnamed += o.Unnamed
	for name, theirs := range o.Outputs {
		if ours := r.output(name); ours != nil {
			ours.merge(theirs)
		}
	}
	return nil
}

// Output sums up comparisons of one output.
type Output struct {
	Tensors int64 `json:"tensors"` // pairs, comparable or not
	// Incomparable are pairs of which one is missing or broken, or that differ in
	// datatype or shape.
	Incomparable int64 `json:"incomparable"`

	Elements int64 `json:"elements"` // that were compared
	Skipped  int64 `json:"skipped"`  // beyond MaxElements
	Differ   int64 `json:"differ"`   // that are not equal
	Unlike   int64 `json:"unlike"`   // of those: without a distance

	// Distances are absolute differences of the elements that have one.
	Sum float64 `json:"sum"`
	Max float64 `json:"max"`
	// MaxULP is the greatest number of representable values between two elements,
	// and ULPs has how many are up to 0, 1, 3, 7, 15, … apart; of integers it is
	// their difference.
	MaxULP uint64    `json:"max_ulp,string"`
	ULPs   [65]int64 `json:"ulps"`

	// Rows are along the last dimension, of tensors that have two or more, if they
	// have at least two elements.
	Rows  int64 `json:"rows"`
	Flips int64 `json:"flips"` // rows whose greatest element is another
	// Kept is how many of the champion's Top greatest are among the candidate's,
	// and TopSum of how many.
	Kept   int64 `json:"kept"`
	TopSum int64 `json:"top_sum"`
}

// Mean returns the mean distance.
func (o *Output) Mean() float64 { return ratio(o.Sum, o.Elements-o.Unlike) }

// FlipRate returns the share of rows whose greatest element is another.
func (o *Output) FlipRate() float64 { return ratio(float64(o.Flips), o.Rows) }

// Overlap returns the share of the champion's greatest elements that are among
// the candidate's.
func (o *Output) Overlap() float64 { return ratio(float64(o.Kept), o.TopSum) }

// ratio is not a number where nothing was compared.
func ratio(x float64, n int64) float64 {
	if n == 0 {
		return math.NaN()
	}
	return x / float64(n)
}

func (o *Output) merge(p *Output) {
	o.Tensors += p.Tensors
	o.Incomparable += p.Incomparable
	o.Elements += p.Elements
	o.Skipped += p.Skipped
	o.Differ += p.Differ
	o.Unlike += p.Unlike
	o.Sum = min(o.Sum+p.Sum, math.MaxFloat64)
	o.Max = max(o.Max, p.Max)
	o.MaxULP = max(o.MaxULP, p.MaxULP)
	for i, n := range p.ULPs {
		o.ULPs[i] += n
	}
	o.Rows += p.Rows
	o.Flips += p.Flips
	o.Kept += p.Kept
	o.TopSum += p.TopSum
}
