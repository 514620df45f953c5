// Package shadow compares what a candidate answers with what the champion has
// answered to the same request, tensor by tensor: would anybody have noticed?
//
// A Report takes a fixed amount of memory however much is compared, and reports
// of many nodes and minutes merge. Comparing allocates nothing and costs a pass
// over the elements, which are read in wire form; how many of an output are
// compared is bounded, and what is left out is counted.
//
// Answers agree or differ row by row of the batch, or as a whole where there are no
// rows. A row agrees if each output does. Rows of floating-point elements agree in their
// greatest, the predicted class say. All other elements, and these as well where Values is
// set, agree within a tolerance. A row never agrees where an output is missing on one side
// or has another datatype or shape, where texts or truth values are not equal, or where
// elements are Unlike.
//
// The rules for numbers: two NaNs are equal, as are two zeros and two infinities of one
// sign. Any other pair with a NaN or an infinity is Unlike and has no distance. Among the
// greatest of a row NaN comes last, and of equal elements the first counts as greater.
package shadow

import (
	"math"
	"slices"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

// Bounds of a Report.
const (
	MaxOutputs = 64
	MaxTop     = 32
	MaxWorst   = 10
)

// Config says what is compared, and what agrees.
type Config struct {
	// Top is how many of the greatest elements of a row are compared, 1 to MaxTop.
	Top int `json:"top"`
	// MaxElements is how many elements of an output are compared at most. Rows that
	// are not compared in all outputs neither agree nor differ.
	MaxElements int64 `json:"max_elements"`
	// Values asks rows to agree in every element, and not only in their greatest.
	Values bool `json:"values,omitempty"`
	// Tolerance is that of all numbers; nil is tensor.Tolerance, what another size of
	// the batch explains.
	Tolerance *Tolerance `json:"tolerance,omitempty"`
}

// Tolerance says how far apart two elements that agree may be: the absolute one and
// so many times the champion's value.
type Tolerance struct {
	Absolute float64 `json:"absolute"`
	Relative float64 `json:"relative"`
}

// DefaultConfig is what is compared where nobody says.
func DefaultConfig() Config { return Config{Top: 5, MaxElements: 1 << 20} }

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Top < 1 || c.Top > MaxTop || c.MaxElements < 1 {
		return fault.New(fault.Unprocessable, "top is %d and max_elements %d, expected 1 to %d and at least 1", c.Top, c.MaxElements, MaxTop).WithCode("shadow_config")
	}
	if t := c.Tolerance; t != nil && !(finite(t.Absolute) && finite(t.Relative)) {
		return fault.New(fault.Unprocessable, "the tolerance is %g and %g of the value, expected numbers that are not negative", t.Absolute, t.Relative).WithCode("shadow_config")
	}
	return nil
}

func finite(x float64) bool { return x >= 0 && x <= math.MaxFloat64 }

// equal reports whether reports of both configurations add up.
func (c Config) equal(o Config) bool {
	if (c.Tolerance == nil) != (o.Tolerance == nil) || c.Tolerance != nil && *c.Tolerance != *o.Tolerance {
		return false
	}
	c.Tolerance, o.Tolerance = nil, nil
	return c == o
}

// Report sums up comparisons. It is not safe for concurrent use.
type Report struct {
	Config
	Answers int64 `json:"answers"` // pairs of answers that were compared
	// Rows are those that were compared in all outputs, and Differ those of them that
	// do not agree; RowsSkipped were not compared in all.
	Rows        int64              `json:"rows"`
	Differ      int64              `json:"differ"`
	RowsSkipped int64              `json:"rows_skipped,omitempty"`
	Outputs     map[string]*Output `json:"outputs"` // by name
	// Unnamed counts outputs beyond MaxOutputs, which are not compared.
	Unnamed int64 `json:"unnamed,omitempty"`
	// Worst are the answers that differ most, the greatest difference first.
	Worst []Worst `json:"worst,omitempty"`

	marks marks
}

// Worst is a pair of answers that differ much, by what they are called in the
// prediction log.
type Worst struct {
	Difference
	Champion  string `json:"champion"`
	Candidate string `json:"candidate,omitempty"`
}

// NewReport returns a report of nothing.
func NewReport(c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Report{Config: c, Outputs: map[string]*Output{}}, nil
}

// Compare adds an answer of the champion, and the candidate's to the same
// request of so many rows; one without rows has 1. The tensors are only read, and
// not kept.
func (r *Report) Compare(champion, candidate []tensor.Tensor, rows int) Difference {
	r.Answers++
	r.marks.begin(int64(max(rows, 0)))
	for i := range champion {
		r.compare(champion[i].Name, &champion[i], named(candidate, champion[i].Name))
	}
	for i := range candidate {
		if named(champion, candidate[i].Name) == nil {
			r.compare(candidate[i].Name, nil, &candidate[i])
		}
	}
	d := r.marks.end()
	r.Rows += d.Rows
	r.Differ += d.Differ
	r.RowsSkipped += d.Skipped
	return d
}

func (r *Report) compare(name string, a, b *tensor.Tensor) {
	out := r.output(name)
	if out == nil {
		r.marks.compared = 0 // nobody knows whether it agrees
		return
	}
	r.marks.name, r.marks.each = name, 0
	out.compare(a, b, &r.Config, &r.marks)
}

// Keep remembers a pair of answers if it is among the worst.
func (r *Report) Keep(w Worst) {
	at := len(r.Worst)
	for at > 0 && w.greater(r.Worst[at-1].Difference) {
		at--
	}
	if at < MaxWorst && !w.Agrees() {
		r.Worst = slices.Insert(r.Worst, at, w)
		r.Worst = r.Worst[:min(len(r.Worst), MaxWorst)]
	}
}

// Worse says whether Keep would keep a pair of answers.
func (r *Report) Worse(d Difference) bool {
	return !d.Agrees() && (len(r.Worst) < MaxWorst || d.greater(r.Worst[MaxWorst-1].Difference))
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
	if !r.equal(o.Config) {
		return fault.New(fault.Invalid, "reports of %+v and %+v do not add up", r.Config, o.Config).WithCode("shadow_config")
	}
	r.Answers += o.Answers
	r.Rows += o.Rows
	r.Differ += o.Differ
	r.RowsSkipped += o.RowsSkipped
	r.Unnamed += o.Unnamed
	for _, w := range o.Worst {
		r.Keep(w)
	}
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
