package rollouthttp

import (
	"context"
	"maps"
	"slices"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/inference/rollout"
	"sluice/internal/platform/cqrs"
)

// shownAlpha is the chance that one of the shown intervals is wrong at some time.
const shownAlpha = 0.05

// SampleRatio says whether units are divided as the weights say.
type SampleRatio struct {
	Units int64   `json:"units" doc:"Requests that were a unit of their own, of all arms."`
	P     float64 `json:"p" doc:"The chance of a division as uneven, at some time; less than 0.001 says that assignment or counting is broken, and no other number can be trusted."`
}

// unknownRatio says why nothing is known of how units are divided, empty where it is known.
func unknownRatio(s *SampleRatio, requests int64) string {
	switch {
	case s != nil:
		return ""
	case requests == 0:
		return "no requests yet"
	}
	return "each request has the unit that it names, or came in spare time: requests of one unit depend on each other, so only those that are a unit of their own are counted (without the unit's header or attribute, or by request_id)"
}

func sampleRatio(units []sequential.Ratio) (*SampleRatio, error) {
	s := &SampleRatio{}
	for _, r := range units {
		for _, n := range r.Counts {
			s.Units += n
		}
	}
	if s.Units == 0 {
		return nil, nil //nolint:nilnil // nothing is known
	}
	var err error
	s.P, err = sequential.SampleRatio(units...)
	return s, err
}

// Numbers are what was measured of both arms, with intervals that may be watched
// all the time.
type Numbers struct {
	Step        int          `json:"step"`
	Champion    any          `json:"champion"`
	Candidate   any          `json:"candidate"`
	SampleRatio *SampleRatio `json:"sample_ratio,omitempty"`
	NoRatio     string       `json:"sample_ratio_unknown,omitempty" doc:"Why there is no sample_ratio."`
	Drift       *Drifted     `json:"drift,omitempty" doc:"Where the step has that guardrail."`
}

// Drifted is how far the candidate's numbers are from the reference's.
type Drifted struct {
	Tensor      string  `json:"tensor" doc:"Which were compared; of several the farthest."`
	Reference   int64   `json:"reference" doc:"Numbers of the reference."`
	Window      int64   `json:"window" doc:"Numbers of the candidate."`
	References  int64   `json:"reference_predictions" doc:"Predictions that the reference's numbers are of."`
	Predictions int64   `json:"window_predictions" doc:"Predictions that the candidate's numbers are of."`
	PSI         float64 `json:"psi"`
	Noise       float64 `json:"noise" doc:"What chance alone gives of psi."`
	MaxNoise    float64 `json:"max_noise" doc:"The same where all numbers of a prediction depend on each other."`
	KS          float64 `json:"ks"`
	KSP         float64 `json:"ks_p"`
	JS          float64 `json:"js"`
}

func numbers(step int, m evidence.Measured) (*Numbers, error) {
	ratio, err := sampleRatio(m.Units)
	n := &Numbers{Step: step, Champion: m.Baseline.Summary(shownAlpha), Candidate: m.Candidate.Summary(shownAlpha), SampleRatio: ratio,
		NoRatio: unknownRatio(ratio, m.Baseline.Requests.N+m.Candidate.Requests.N)}
	if d := m.Scores; d != nil {
		n.Drift = &Drifted{m.Scored, d.Reference, d.Window, d.ReferenceSamples, d.WindowSamples, d.PSI, d.Noise, d.MaxNoise, d.KS, d.KSP, d.JS}
	}
	return n, err
}

// measured returns what was measured since the step of a release began; of one that is
// over, what it was last judged by, and nil where it never was.
func measured(ctx context.Context, b *cqrs.Bus, e rollout.Evidence, r *rollout.LoadedRelease) (*Numbers, error) {
	if !r.State.Status.Final() {
		m, err := e.Measure(ctx, r)
		if err != nil {
			return nil, err
		}
		return numbers(r.State.Step, m)
	}
	last, err := cqrs.Ask(ctx, b, rollout.LastDecision{ID: r.Root.ID})
	if err != nil || last == nil {
		return nil, err
	}
	return numbers(last.Step, last.Decision.Measured)
}

// Label is what the labels of a name come to.
type Label struct {
	Name  string  `json:"label_name"`
	Count int64   `json:"count" doc:"Of labels with a score."`
	Mean  float64 `json:"mean"`
}

// ArmNumbers are what was measured of an arm of an experiment.
type ArmNumbers struct {
	Arm     string  `json:"arm"`
	Weight  int     `json:"weight" doc:"In basis points, now."`
	Numbers any     `json:"numbers" doc:"Requests, error rate and latency, with intervals that may be watched all the time."`
	Labels  []Label `json:"labels" doc:"As the prediction log of this server has them."`
}

// ExperimentNumbers are what was measured of all arms.
type ExperimentNumbers struct {
	Arms        []ArmNumbers `json:"arms"`
	Weightings  int          `json:"weightings" doc:"How many weightings the numbers are sums of. Sums over several compare no arms, since each had most units at another time: they have no intervals."`
	SampleRatio *SampleRatio `json:"sample_ratio,omitempty"`
	NoRatio     string       `json:"sample_ratio_unknown,omitempty" doc:"Why there is no sample_ratio."`
}

// Evidence is what is shown of arms.
type Evidence struct {
	rollout.Counted
	Log rollout.PredictionLog // nil for none
}

// of returns what was measured of an experiment.
func (e Evidence) of(ctx context.Context, x *rollout.LoadedExperiment) (*ExperimentNumbers, error) {
	all, err := e.Arms(ctx, x)
	if err != nil {
		return nil, err
	}
	var scores record.Scores
	if e.Log != nil {
		if scores, err = e.Log.Scores(ctx, record.Window{Experiment: string(x.Root.ID), From: x.CreatedAt}); err != nil {
			return nil, err
		}
	}
	out, requests := &ExperimentNumbers{Weightings: len(all.Weightings)}, int64(0)
	for _, a := range all.Arms {
		requests += a.Numbers.Requests.N
		summary := a.Numbers.Summary(shownAlpha)
		if out.Weightings > 1 {
			summary = summary.Bare()
		}
		view := ArmNumbers{Arm: a.Arm, Weight: a.Weight, Numbers: summary, Labels: []Label{}}
		for _, name := range slices.Sorted(maps.Keys(scores[a.Arm])) {
			m := scores[a.Arm][name]
			view.Labels = append(view.Labels, Label{name, m.N, m.Mean})
		}
		out.Arms = append(out.Arms, view)
	}
	out.SampleRatio, err = sampleRatio(all.Units)
	out.NoRatio = unknownRatio(out.SampleRatio, requests)
	return out, err
}
