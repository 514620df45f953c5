package evaluation

import (
	"testing"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
)

// A segment says something by the rows that somebody has asked as they are, where these are
// enough; the more segments there are, the less.
func TestWorstSegment(t *testing.T) {
	const enough = evidence.MinSegmentRows
	r := Result{Segments: []Segments{{By: "arm", Values: map[string]*Count{
		"small":   {Rows: enough - 1, Flips: enough - 1},
		"altered": {Rows: 1000, Flips: 1000, Altered: 1000 - enough + 1, AlteredFlips: 1000 - enough + 1},
		"large":   {Rows: 1000, Flips: 200},
	}}, {By: "in/x", Values: map[string]*Count{"7": {Rows: 1000, Flips: 200}}, Others: Count{Rows: enough + 500, Flips: 505, Altered: 500, AlteredFlips: 500}}}}
	w, among := r.WorstSegment()
	if among != 3 || w.By != "arm" || w.Value != "large" {
		t.Errorf("%+v of %d", w, among)
	}
	r.Segments[1].Others.Flips += enough - 5
	if w, _ = r.WorstSegment(); w.Value != Others || w.Asked() != (sequential.Count{N: enough, Hits: enough}) {
		t.Errorf("%+v", w)
	}
}

// What nobody has asked is counted apart.
func TestAlteredRowsAreApart(t *testing.T) {
	r := Result{Segments: []Segments{{By: "arm"}}}
	for i := range 10 {
		r.count(i%2 == 0, i < 4, []string{"a"})
	}
	if want := (sequential.Count{N: 6, Hits: 3}); r.Asked() != want || r.Segments[0].Values["a"].Asked() != want || r.Share() != (sequential.Count{N: 10, Hits: 5}) {
		t.Errorf("%+v", r)
	}
}
