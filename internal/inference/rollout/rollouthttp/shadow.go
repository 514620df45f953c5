package rollouthttp

import (
	"maps"
	"math"
	"slices"
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/rollout"
	"sluice/internal/inference/shadow"
)

// Shadowing says which requests a version gets copies of, and which answers agree.
type Shadowing struct {
	Sample    float64          `json:"sample,omitempty" minimum:"0" maximum:"1" default:"1" doc:"The share of the requests."`
	Compare   string           `json:"compare,omitempty" enum:"argmax,values" default:"argmax" doc:"What agrees: argmax compares the greatest element of each row of floating-point numbers, the predicted class say, and every element of other outputs; values compares every element of all outputs."`
	Tolerance *ShadowTolerance `json:"tolerance,omitempty" doc:"How far apart numbers that agree may be. Without it: as much as another batch size explains; integers, texts and truth values are equal."`
	Top       int              `json:"top,omitempty" minimum:"1" maximum:"32" default:"5" doc:"How many of the greatest elements of a row are counted as kept or lost."`
}

// ShadowTolerance is how far apart two numbers that agree may be: absolute plus
// relative times the champion's value.
type ShadowTolerance shadow.Tolerance

// ShadowArm is a version that gets copies of requests, for its answers to be
// compared.
type ShadowArm struct {
	Name    string `json:"name" minLength:"1" maxLength:"128"`
	Version string `json:"version" minLength:"1" maxLength:"20"`
	Digest  string `json:"artifact_digest,omitempty" readOnly:"true"`
	Shadowing
}

// policy returns what the service takes for it; zero values have the defaults that the
// document names.
func (s *Shadowing) policy() shadow.Policy {
	p := shadow.DefaultPolicy()
	if s.Sample > 0 {
		p.Sample = s.Sample
	}
	if s.Top > 0 {
		p.Top = s.Top
	}
	p.Values, p.Tolerance = s.Compare == "values", (*shadow.Tolerance)(s.Tolerance)
	return p
}

func shadowingView(p shadow.Policy) Shadowing {
	s := Shadowing{Sample: p.Sample, Compare: "argmax", Tolerance: (*ShadowTolerance)(p.Tolerance), Top: p.Top}
	if p.Values {
		s.Compare = "values"
	}
	return s
}

func (s *ShadowArm) ask() *rollout.WeightlessArm {
	if s == nil {
		return nil
	}
	return &rollout.WeightlessArm{Name: s.Name, Version: s.Version, Policy: s.policy()}
}

func shadowArmView(s *rollout.ShadowArm) *ShadowArm {
	if s == nil {
		return nil
	}
	return &ShadowArm{s.Name, number(s.Version), s.Digest, shadowingView(s.Policy)}
}

// Shadow is what came of copies of requests.
type Shadow struct {
	Compared int64           `json:"compared" doc:"Requests that both versions have answered."`
	Failed   int64           `json:"failed" doc:"Requests that the champion has answered, and the shadow not."`
	Dropped  []ShadowDropped `json:"dropped" doc:"Copies that came to nothing, for no fault of the shadow's."`
	Rows     int64           `json:"rows" doc:"Rows that were compared in all outputs; an answer without rows is one."`
	Differ   int64           `json:"rows_that_differ"`
	Skipped  int64           `json:"rows_skipped" doc:"Rows that are too long to be compared as a whole."`
	Latency  [2]ShadowTimes  `json:"run_seconds" doc:"Of the runs that were compared: the champion's and the shadow's."`
	Outputs  []ShadowOutput  `json:"outputs"`
	Worst    []ShadowWorst   `json:"worst" doc:"The requests whose answers differ most, the greatest difference first."`
}

// ShadowDropped counts copies that came to nothing.
type ShadowDropped struct {
	Reason string `json:"reason" enum:"busy,full,missing,closing"`
	Copies int64  `json:"copies"`
}

// ShadowTimes are quantiles of the times of runs, in seconds.
type ShadowTimes struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// ShadowOutput is how an output differs. What nothing was compared for is null.
type ShadowOutput struct {
	Name         string   `json:"name"`
	Elements     int64    `json:"elements"`
	Differ       int64    `json:"elements_that_differ"`
	Unlike       int64    `json:"unlike" doc:"Of those: without a distance. One is not a number or infinite and the other is not, or they are texts."`
	Incomparable int64    `json:"incomparable" doc:"Answers in which it is missing, or has another datatype or shape."`
	Flips        *float64 `json:"argmax_flips" doc:"The share of rows whose greatest element is another."`
	Overlap      *float64 `json:"top_overlap" doc:"The share of the champion's greatest elements that are among the shadow's."`
	Mean         *float64 `json:"mean_distance"`
	Max          float64  `json:"max_distance"`
	MaxULP       uint64   `json:"max_ulp" doc:"The greatest number of representable values between two elements."`
}

// ShadowWorst is a request whose answers differ much.
type ShadowWorst struct {
	Champion  string  `json:"champion_prediction,omitempty" doc:"Its id in the prediction log."`
	Candidate string  `json:"shadow_prediction,omitempty"`
	Rows      int64   `json:"rows"`
	Differ    int64   `json:"rows_that_differ"`
	Output    string  `json:"output" doc:"The one that differs most."`
	Excess    float64 `json:"excess" doc:"How many times their tolerance two of its elements are apart; 1 for another class, and the greatest number where there is no saying."`
	Distance  float64 `json:"distance"`
}

func shadowView(n *shadow.Numbers) *Shadow {
	r := n.Report
	v := &Shadow{Compared: r.Answers, Failed: n.Failed, Rows: r.Rows, Differ: r.Differ, Skipped: r.RowsSkipped, Dropped: []ShadowDropped{}, Outputs: []ShadowOutput{}, Worst: []ShadowWorst{},
		Latency: [2]ShadowTimes{timesView(n.Champion), timesView(n.Candidate)}}
	for _, why := range shadow.Reasons() {
		v.Dropped = append(v.Dropped, ShadowDropped{string(why), n.Dropped[why]})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
		o := r.Outputs[name]
		v.Outputs = append(v.Outputs, ShadowOutput{name, o.Elements, o.Differ, o.Unlike, o.Incomparable, known(o.FlipRate()), known(o.Overlap()), known(o.Mean()), o.Max, o.MaxULP})
	}
	for _, w := range r.Worst {
		v.Worst = append(v.Worst, ShadowWorst{w.Champion, w.Candidate, w.Rows, w.Differ, w.Output, w.Excess, w.Distance})
	}
	return v
}

func timesView(h *histogram.Histogram) ShadowTimes {
	at := func(q float64) float64 {
		if h.Count() == 0 {
			return 0
		}
		return float64(h.Quantile(q)) / float64(time.Second)
	}
	return ShadowTimes{at(0.5), at(0.9), at(0.99)}
}

// known returns a number, nil for NaN.
func known(x float64) *float64 {
	if math.IsNaN(x) {
		return nil
	}
	return &x
}
