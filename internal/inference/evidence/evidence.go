// Package evidence judges a candidate against a baseline by what was measured
// of both: may it have more traffic, must it go back, or is it too early to say?
//
// A judgement is a pure function of a policy and of numbers that merge, so it
// is kept with them and can be made again, by anybody, with the same outcome.
// It may be made after every request: the statistics are those of package
// sequential. What is not known never passes.
//
// Known limits: both arms must have been served at the same time, to units that
// were assigned by chance. Requests that influence each other, bursts of errors
// of one client say, tell less than their number suggests.
package evidence

import (
	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// Numbers are what was measured of one arm.
type Numbers struct {
	Requests sequential.Count `json:"requests"` // hits are those that failed
	// Latency is of the requests that succeeded.
	Latency *histogram.Histogram `json:"latency,omitempty"`
	// Quality is of the predictions that have a label: 1 for a right one and 0 for
	// a wrong one, or any other score of which more is better.
	Quality sequential.Moments `json:"quality"`
	// Outside is how many labels have a score that the policy does not count.
	Outside int64 `json:"outside,omitempty"`
}

// Merge adds what was measured elsewhere, or in another minute.
func (n *Numbers) Merge(o Numbers) {
	n.Requests.N += o.Requests.N
	n.Requests.Hits += o.Requests.Hits
	n.Quality.Merge(o.Quality)
	n.Outside += o.Outside
	if o.Latency.Count() > 0 {
		sum := new(histogram.Histogram)
		sum.Merge(n.Latency)
		sum.Merge(o.Latency)
		n.Latency = sum
	}
}

// Measured is all that a judgement rests on.
type Measured struct {
	Baseline  Numbers `json:"baseline"`
	Candidate Numbers `json:"candidate"`
	// Units are how many units each arm was given, for each weighting.
	Units []sequential.Ratio `json:"units,omitempty"`
	// Answers are the rows that both have answered, in shadow or by replay; hits
	// are those whose answer is another, see package shadow.
	Answers sequential.Count `json:"answers,omitzero"`
	// Scores is how far the candidate's answers are from a reference's, and Scored which of
	// them.
	Scores *drift.Distance `json:"scores,omitempty"`
	Scored string          `json:"scored,omitempty"`
	// Replayed is what came of asking the candidate again what was asked before.
	Replayed *Replayed `json:"replayed,omitempty"`
}

// validate refuses numbers that cannot be.
func (m Measured) validate() error {
	for name, n := range map[string]Numbers{"baseline": m.Baseline, "candidate": m.Candidate} {
		if r := n.Requests; r.Hits < 0 || r.Hits > r.N || n.Quality.N < 0 || !(n.Quality.M2 >= 0) {
			return fault.New(fault.Invalid, "the numbers of the %s cannot be: %d of %d requests failed, and %d labels have squares that sum up to %g",
				name, r.Hits, r.N, n.Quality.N, n.Quality.M2).WithCode("evidence_numbers")
		}
	}
	if a := m.Answers; a.Hits < 0 || a.Hits > a.N {
		return fault.New(fault.Invalid, "%d of %d answers differ, which cannot be", a.Hits, a.N).WithCode("evidence_numbers")
	}
	return m.Replayed.validate()
}

// Verdict is what a judgement comes to.
type Verdict string

// The verdicts.
const (
	Pass      Verdict = "pass"      // at least as good as the policy asks for
	Fail      Verdict = "fail"      // worse than it allows
	Undecided Verdict = "undecided" // too few numbers to say either
)

// Finding is what one guardrail says.
type Finding struct {
	Guardrail string  `json:"guardrail"`
	Verdict   Verdict `json:"verdict"`
	// Interval has what is limited, as far as the numbers tell: the guardrail
	// passes where all of it is within the limit, and fails where none is.
	Interval sequential.Interval `json:"interval"`
	Limit    float64             `json:"limit"`
	Message  string              `json:"message"` // for people
}

// Judgement is what all guardrails say together: Fail where one fails, Pass
// where all pass.
type Judgement struct {
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
}

// Judge applies a policy to what was measured.
func Judge(p Policy, m Measured) (Judgement, error) {
	if err := p.Validate(); err != nil {
		return Judgement{}, err
	}
	if err := m.validate(); err != nil {
		return Judgement{}, err
	}
	out := Judgement{Verdict: Pass}
	for _, guardrail := range p.guardrails() {
		f, err := guardrail(m)
		if err != nil {
			return Judgement{}, err
		}
		out.Findings = append(out.Findings, f)
		switch {
		case f.Verdict == Fail:
			out.Verdict = Fail
		case f.Verdict == Undecided && out.Verdict == Pass:
			out.Verdict = Undecided
		}
	}
	return out, nil
}
