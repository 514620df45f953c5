package sequential

import (
	"math"

	"sluice/internal/platform/fault"
)

// Ratio is how many units went to each arm while the arms had these weights.
type Ratio struct {
	Counts  []int64   `json:"counts"`
	Weights []float64 `json:"weights"` // shares that add up to 1
}

// concentration is the prior weight, in units, of the arms having their
// shares: the test is most powerful for shares that are off by about
// 1/sqrt(concentration), a percentage point or two.
const concentration = 1000

// SampleRatio returns the always-valid p-value of the hypothesis that units were
// given to the arms by their weights. A small one says that assignment or
// logging is broken, and nothing else that is measured can be trusted; 0.001 is
// the customary limit. It is the multinomial test of Lindon and Malek
// ("Anytime-valid inference for multinomial count data", NeurIPS 2022).
//
// Each change of weights begins a new ratio: the evidence multiplies. Units are
// counted, not requests, since those of one unit all have the same arm.
func SampleRatio(ratios ...Ratio) (float64, error) {
	evidence := 0.0
	for _, r := range ratios {
		if err := r.validate(); err != nil {
			return 1, err
		}
		n, against := 0.0, 0.0
		for i, w := range r.Weights {
			hits := float64(r.Counts[i])
			if w == 0 {
				if hits > 0 {
					return 0, nil // impossible unless something is broken
				}
				continue
			}
			n += hits
			against += logGamma(concentration*w+hits) - logGamma(concentration*w) - hits*math.Log(w)
		}
		evidence += against + logGamma(concentration) - logGamma(concentration+n)
	}
	return min(1, math.Exp(-evidence)), nil
}

func (r Ratio) validate() error {
	sum := 0.0
	for _, w := range r.Weights {
		if !(w >= 0) {
			return fault.New(fault.Invalid, "a weight is %g, expected a share from 0 to 1", w).WithCode("sample_ratio_invalid")
		}
		sum += w
	}
	for _, n := range r.Counts {
		if n < 0 {
			return fault.New(fault.Invalid, "an arm has %d units", n).WithCode("sample_ratio_invalid")
		}
	}
	if len(r.Counts) != len(r.Weights) || math.Abs(sum-1) > 1e-9 {
		return fault.New(fault.Invalid, "%d arms have %d weights which add up to %g, expected 1", len(r.Counts), len(r.Weights), sum).WithCode("sample_ratio_invalid")
	}
	return nil
}
