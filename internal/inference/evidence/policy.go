package evidence

import (
	"cmp"
	"fmt"
	"time"

	"sluice/internal/platform/fault"
)

// Policy is what a candidate has to prove. Guardrails that are nil are not
// asked; at least one must be.
type Policy struct {
	// Alpha is the greatest chance that ErrorRate, Latency, Quality or Agreement
	// says something wrong, in any of all looks: it is divided among those that
	// are asked.
	Alpha float64 `json:"alpha"`
	// MinRequests is how many requests each arm needs before anything passes. What
	// is clearly worse fails before that.
	MinRequests int64        `json:"min_requests"`
	ErrorRate   *ErrorRate   `json:"error_rate,omitempty"`
	Latency     *Latency     `json:"latency,omitempty"`
	Quality     *Quality     `json:"quality,omitempty"`
	Agreement   *Agreement   `json:"agreement,omitempty"`
	SampleRatio *SampleRatio `json:"sample_ratio,omitempty"`
	Drift       *Drift       `json:"drift,omitempty"`
	Replay      *Replay      `json:"replay,omitempty"`
}

// ErrorRate bounds the share of failed requests.
type ErrorRate struct {
	// Worse is by how much the candidate's rate may exceed the baseline's: 0.001
	// is a tenth of a percentage point. It is what can be told apart from nothing,
	// so it is greater than zero: the smaller, the more requests that takes.
	Worse float64 `json:"worse"`
	// Test is Exact, also where it is empty, or MSPRT.
	Test string `json:"test,omitempty" enum:"exact,msprt"`
}

// Tests of an error rate.
const (
	// Exact holds from the first request on, for arms of any size.
	Exact = "exact"
	// MSPRT is the mixture sequential probability ratio test. Between arms of about equal
	// size it finds a difference with a third of the requests that Exact takes; it is silent
	// until each arm has failed ten times and succeeded ten times.
	MSPRT = "msprt"
)

// Latency bounds a quantile of the latencies.
type Latency struct {
	Quantile float64 `json:"quantile"` // 0.99 say
	// Ratio is how many times the baseline's the candidate's may be, above 1.
	Ratio float64 `json:"ratio"`
}

// Quality bounds the mean of the labels' scores from below.
type Quality struct {
	// Label names the labels that count; empty is DefaultLabel.
	Label string `json:"label,omitempty"`
	// Worse is by how much the candidate's mean may be less, above 0.
	Worse float64 `json:"worse"`
	// Range is what scores lie within, bounds included; nil is 0 to 1. Others do not count:
	// with one extreme score anybody who may label could outweigh everybody else.
	Range *[2]float64 `json:"range,omitempty"`
	// MinLabels is how many labels each arm needs, at least MinLabels: the
	// intervals are asymptotic.
	MinLabels int64 `json:"min_labels"`
}

// Agreement bounds the share of answers that are not the baseline's.
type Agreement struct {
	MaxFlips float64 `json:"max_flips"` // above 0
}

// SampleRatio demands that units were divided as the weights say.
type SampleRatio struct {
	// Alpha is the chance that it fails though they were, customarily 0.001.
	Alpha float64 `json:"alpha"`
}

// Drift bounds how far the candidate's answers are from the reference's.
type Drift struct {
	MaxPSI float64 `json:"max_psi"` // without what chance gives, customarily 0.25
	// Tensor names what is compared, such as out/y, or out/y/2 for a column; in/x says how
	// alike the requests are. Without it the output that is farthest counts.
	Tensor string `json:"tensor,omitempty"`
	// Reference makes the reference what the model answered for so long before the release,
	// such as 24h; without it the reference is what the baseline answers in the step.
	Reference string `json:"reference,omitempty"`
}

// Window returns how long the reference is; 0 for none.
func (g *Drift) Window() time.Duration {
	d, _ := time.ParseDuration(g.Reference)
	return d
}

// DefaultLabel is the name of labels that are given without one.
const DefaultLabel = "label"

// Within returns the range of scores that count.
func (g *Quality) Within() [2]float64 {
	if g.Range == nil {
		return [2]float64{0, 1}
	}
	return *g.Range
}

// Counts returns the name of the labels that count.
func (g *Quality) Counts() string { return cmp.Or(g.Label, DefaultLabel) }

// MinLabels is how many labels each arm needs at least, whatever a policy says.
const MinLabels = 100

// Bounds of Drift.
const (
	maxReference = 31 * 24 * time.Hour
	maxTensor    = 300
)

// maxScore bounds what scores can be.
const maxScore = 1e12

// maxLabel is how many bytes the name of a label has at most.
const maxLabel = 64

// value is a number that may be left out.
func value(x *float64) float64 {
	if x == nil {
		return 0
	}
	return *x
}

// Validate says what is wrong with the policy.
func (p Policy) Validate() error {
	var wrong []fault.Detail
	check := func(ok bool, pointer, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fault.Detail{Pointer: pointer, Code: "policy_invalid", Message: fmt.Sprintf(format, args...)})
		}
	}
	share := func(x float64) bool { return x > 0 && x < 1 }
	check(share(p.Alpha), "/alpha", "alpha is %g, expected more than 0 and less than 1; 0.05 is usual", p.Alpha)
	check(p.MinRequests >= 1, "/min_requests", "min_requests is %d, expected at least 1", p.MinRequests)
	if g := p.ErrorRate; g != nil {
		check(share(g.Worse), "/error_rate/worse", "worse is %g, expected more than 0 and less than 1", g.Worse)
		check(g.Test == "" || g.Test == Exact || g.Test == MSPRT, "/error_rate/test", "the test is %q, expected %s or %s", fault.Clip(g.Test, 20), Exact, MSPRT)
	}
	if g := p.Latency; g != nil {
		check(share(g.Quantile), "/latency/quantile", "the quantile is %g, expected more than 0 and less than 1", g.Quantile)
		check(g.Ratio > 1 && g.Ratio <= 1e6, "/latency/ratio", "the ratio is %g, expected more than 1", g.Ratio)
	}
	if g := p.Quality; g != nil {
		check(g.Worse > 0 && g.Worse <= 1e300, "/quality/worse", "worse is %g, expected more than 0", g.Worse)
		within := g.Within()
		check(within[0] < within[1] && max(-within[0], within[1]) <= maxScore, "/quality/range", "the range is %g to %g, expected a lower number first, and at most %g from 0", within[0], within[1], maxScore)
		check(len(g.Label) <= maxLabel, "/quality/label", "the label's name has %d bytes, at most %d are possible", len(g.Label), maxLabel)
		check(g.MinLabels >= MinLabels, "/quality/min_labels", "min_labels is %d, expected at least %d", g.MinLabels, MinLabels)
	}
	if g := p.Agreement; g != nil {
		check(share(g.MaxFlips), "/agreement/max_flips", "max_flips is %g, expected more than 0 and less than 1", g.MaxFlips)
	}
	if g := p.SampleRatio; g != nil {
		check(share(g.Alpha), "/sample_ratio/alpha", "alpha is %g, expected more than 0 and less than 1; 0.001 is usual", g.Alpha)
	}
	if g := p.Drift; g != nil {
		check(g.Reference == "" || g.Window() >= time.Minute && g.Window() <= maxReference, "/drift/reference", "reference is %q, expected a time from 1m to %s", fault.Clip(g.Reference, 20), maxReference)
		check(len(g.Tensor) <= maxTensor, "/drift/tensor", "the tensor's name has %d bytes, at most %d are possible", len(g.Tensor), maxTensor)
		check(g.MaxPSI > 0 && g.MaxPSI <= 1e6, "/drift/max_psi", "max_psi is %g, expected more than 0; 0.25 is usual", g.MaxPSI)
	}
	if g := p.Replay; g != nil {
		check(g.MaxFlipRate >= 0 && g.MaxFlipRate < 1, "/replay/max_flip_rate", "max_flip_rate is %g, expected 0 or more and less than 1", g.MaxFlipRate)
		check(g.MaxSegmentFlipRate == nil || *g.MaxSegmentFlipRate >= 0 && *g.MaxSegmentFlipRate < 1, "/replay/max_segment_flip_rate", "max_segment_flip_rate is %g, expected 0 or more and less than 1", value(g.MaxSegmentFlipRate))
		check(g.MinRows >= 1, "/replay/min_rows", "min_rows is %d, expected at least 1", g.MinRows)
	}
	check(len(p.guardrails()) > 0, "", "the policy has no guardrail, so nothing could be proved")
	if len(wrong) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "the policy has mistakes; the first: %s", wrong[0].Message).WithCode("policy_invalid").WithDetails(wrong...)
}
