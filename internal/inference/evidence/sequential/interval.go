// Package sequential has statistics that stay valid however often one looks:
// confidence sequences and the tests that belong to them.
//
// A confidence sequence is an interval for each number of observations, and
// with probability 1-alpha all of them hold the true value at once. So whoever
// looks after every request, and stops when it looks good, is still wrong in at
// most a share alpha of all experiments; with ordinary intervals that share
// goes towards one.
//
// Proportion, ProportionDifferenceExact, Ranks and SampleRatio hold for any
// number of observations. ProportionDifference and MSPRT rest on the central
// limit theorem, and are silent until it is a good guess. So do Mean and
// MeanDifference, for which callers must demand a hundred observations of each
// arm. All of them take observations to be independent.
//
// Everything is a pure function of counts and sums, which merge.
package sequential

import (
	"encoding/json"
	"math"

	"sluice/internal/platform/fault"
)

// Interval is a closed interval. As JSON it is [low, high], with null for what
// has no bound.
type Interval struct{ Low, High float64 }

// Everything is the interval of those who know nothing.
var Everything = Interval{math.Inf(-1), math.Inf(1)}

// Has says whether x lies in the interval.
func (i Interval) Has(x float64) bool { return i.Low <= x && x <= i.High }

// Less returns the interval of x-y for any x of i and y of j.
func (i Interval) Less(j Interval) Interval { return Interval{i.Low - j.High, i.High - j.Low} }

// MarshalJSON implements json.Marshaler.
func (i Interval) MarshalJSON() ([]byte, error) {
	var out [2]*float64
	for n, x := range []float64{i.Low, i.High} {
		if !math.IsInf(x, 0) && !math.IsNaN(x) {
			out[n] = &x
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *Interval) UnmarshalJSON(data []byte) error {
	var in [2]*float64
	if err := json.Unmarshal(data, &in); err != nil {
		return fault.Wrap(fault.Invalid, err, "an interval is [low, high], with null for no bound").WithCode("interval_malformed")
	}
	*i = Everything
	if in[0] != nil {
		i.Low = *in[0]
	}
	if in[1] != nil {
		i.High = *in[1]
	}
	return nil
}
