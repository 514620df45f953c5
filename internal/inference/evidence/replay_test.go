package evidence

import (
	"testing"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// An evaluation passes by its numbers alone: one that has not ended is waited for, and one
// that came to nothing, or to little, fails.
func TestReplay(t *testing.T) {
	some := 0.1
	overall, both := Policy{Alpha: 0.05, MinRequests: 1, Replay: &Replay{MaxFlipRate: 0.02, MinRows: 100}}, Policy{Alpha: 0.05, MinRequests: 1, Replay: &Replay{MaxFlipRate: 0.02, MinRows: 100, MaxSegmentFlipRate: &some}}
	rows := func(n, hits int64) sequential.Count { return sequential.Count{N: n, Hits: hits} }
	for name, c := range map[string]struct {
		policy Policy
		of     *Replayed
		want   Verdict
	}{
		"nothing":                     {overall, nil, Undecided},
		"not ended":                   {overall, &Replayed{Rows: rows(1000, 0)}, Undecided},
		"failed":                      {overall, &Replayed{Ended: true, Failed: "it broke", Rows: rows(1000, 0)}, Fail},
		"no rows":                     {overall, &Replayed{Ended: true}, Fail},
		"few rows":                    {overall, &Replayed{Ended: true, Rows: rows(99, 0)}, Fail},
		"enough":                      {overall, &Replayed{Ended: true, Rows: rows(100, 2)}, Pass},
		"too many":                    {overall, &Replayed{Ended: true, Rows: rows(100, 3)}, Fail},
		"no segments":                 {both, &Replayed{Ended: true, Rows: rows(1000, 0)}, Fail},
		"no segment of enough":        {both, &Replayed{Ended: true, Rows: rows(1000, 1), Segment: "arm", Of: rows(2, 1), Segments: 1}, Fail},
		"one row that flips":          {both, &Replayed{Ended: true, Rows: rows(1000, 1), Segment: "arm", Of: rows(1, 1), Segments: 50}, Fail},
		"few that flip":               {both, &Replayed{Ended: true, Rows: rows(1000, 7), Segment: "arm", Of: rows(30, 7), Segments: 1}, Fail},
		"few that flip of many":       {both, &Replayed{Ended: true, Rows: rows(1000, 7), Segment: "arm", Of: rows(30, 7), Segments: 50}, Pass},
		"altered rows are not needed": {overall, &Replayed{Ended: true, Rows: rows(99, 0), Altered: 1000}, Fail},
		"a segment that flips":        {both, &Replayed{Ended: true, Rows: rows(5000, 60), Segment: "arm", Of: rows(200, 60), Segments: 2}, Fail},
		"a segment that is not asked": {overall, &Replayed{Ended: true, Rows: rows(5000, 60), Segment: "arm", Of: rows(200, 60), Segments: 2}, Pass},
	} {
		d, err := Decide(c.policy, Measured{Replayed: c.of})
		if err != nil || d.Judgement.Verdict != c.want {
			t.Errorf("%s: %+v, %v", name, d.Judgement, err)
		}
		if err := d.Replay(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == Pass {
			d.Measured.Replayed = &Replayed{Ended: true, Rows: rows(100, 50), Segment: "x", Of: rows(100, 50), Segments: 1}
			if err := d.Replay(); fault.CodeOf(err) != "decision_differs" {
				t.Errorf("%s: other numbers are not noticed: %v", name, err)
			}
		}
	}
	if _, err := Decide(overall, Measured{Replayed: &Replayed{Ended: true, Rows: rows(1, 2)}}); fault.CodeOf(err) != "evidence_numbers" {
		t.Error(err)
	}
	for _, g := range []Replay{{MaxFlipRate: -1, MinRows: 1}, {MaxFlipRate: 1, MinRows: 1}, {MinRows: 0}} {
		if err := (Policy{Alpha: 0.05, MinRequests: 1, Replay: &g}).Validate(); fault.CodeOf(err) != "policy_invalid" {
			t.Errorf("%+v: %v", g, err)
		}
	}
}
