package rollouthttp

import (
	"strings"
	"testing"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
)

// Where nothing is known of how units are divided, the answer says why.
func TestNoSampleRatioSaysWhy(t *testing.T) {
	requests := evidence.Numbers{Requests: sequential.Count{N: 100}}
	units := []sequential.Ratio{{Counts: []int64{50, 50}, Weights: []float64{0.5, 0.5}}}
	for name, c := range map[string]struct {
		m    evidence.Measured
		want string
	}{
		"nothing":            {evidence.Measured{}, "no requests yet"},
		"units that return":  {evidence.Measured{Baseline: requests, Candidate: requests}, "depend on each other"},
		"units of their own": {evidence.Measured{Baseline: requests, Candidate: requests, Units: units}, ""},
	} {
		n, err := numbers(0, c.m)
		if err != nil || (n.SampleRatio == nil) != (c.want != "") || (n.NoRatio == "") != (c.want == "") || !strings.Contains(n.NoRatio, c.want) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}
