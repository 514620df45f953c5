package rollout

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/record"
	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/inference/shadow"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// scores is an answer of one row.
func scores(values ...float32) []tensor.Tensor {
	t := tensor.Tensor{Name: "y", Datatype: tensor.FP32, Shape: tensor.Shape{1, int64(len(values))}}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(v))
	}
	return []tensor.Tensor{t}
}

// shadowing is a release that begins with a shadow.
func shadowing(t testing.TB, policy evidence.Policy) (*stage, *LoadedRelease) {
	t.Helper()
	s := newStage(t, false)
	all := append([]release.Step{{Name: "shadow", Shadow: true, Policy: policy}}, steps(100)...)
	r, err := s.service.StartRelease(as("key_a"), s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: all})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

var agreeing = evidence.Policy{Alpha: 0.05, MinRequests: 50, Agreement: &evidence.Agreement{MaxFlips: 0.2}}

// A release whose first step is a shadow passes it by answers that agree, over all
// nodes, and goes back by those that do not; every request is the champion's.
func TestReleaseBeginsWithShadow(t *testing.T) {
	for name, c := range map[string]struct {
		candidate []tensor.Tensor
		failed    int
		policy    evidence.Policy
		step      int
		status    release.Status
	}{
		"agrees":       {scores(0.2, 0.9), 0, agreeing, 1, release.Running},
		"differs":      {scores(0.9, 0.2), 0, agreeing, 0, release.RolledBack},
		"fails":        {scores(0.2, 0.9), 300, evidence.Policy{Alpha: 0.05, MinRequests: 50, ErrorRate: &evidence.ErrorRate{Worse: 0.1}}, 0, release.RolledBack},
		"is slow":      {scores(0.2, 0.9), 0, evidence.Policy{Alpha: 0.05, MinRequests: 50, Latency: &evidence.Latency{Quantile: 0.5, Ratio: 1.5}}, 0, release.RolledBack},
		"nobody knows": {nil, 0, agreeing, 0, release.Running},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := shadowing(t, c.policy)
			judge, err := NewDriver(s.store, s.bus, Counted{s.store}, DriverConfig{})
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range []string{"a", "b"} {
				f, err := NewFollower(s.store, silent{}, s.router, FollowerConfig{})
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				split := s.router.names["m"][""].Split
				if split == nil || split.Shadow == nil || split.Shadow.Digest != digest(2) || split.Shadow.Sample != 1 || split.Arms[0].Digest != digest(1) {
					t.Fatalf("%+v", split)
				}
				for range 300 {
					split.Arms[0].Meter.Answered(experiment.ByUnit, time.Millisecond)
					if c.candidate != nil {
						split.Shadow.Judge.Compare(&route.Pair{Rows: 1, Champion: route.Answered{Prediction: record.ID{1}, Outputs: scores(0.1, 0.9), Took: time.Millisecond},
							Candidate: route.Answered{Prediction: record.ID{2}, Outputs: c.candidate, Took: 2 * time.Millisecond}})
					}
					split.Shadow.Judge.Dropped(shadow.Busy)
				}
				for range c.failed {
					split.Shadow.Judge.Failed()
				}
				for _, tally := range append(f.Tallies().all(), f.Tallies().all()...) {
					if err := tally.write(t.Context(), s.store, node); err != nil {
						t.Fatal(err)
					}
				}
			}
			judge.Round(t.Context())
			r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
			if err != nil || r.State.Status != c.status || r.State.Step != c.step {
				t.Errorf("%s at step %d: %s, %v", r.State.Status, r.State.Step, r.State.Reason, err)
			}
			n, err := cqrs.Ask(as("key_a"), s.bus, FindShadow{Holder: string(s.id)})
			if err != nil {
				t.Fatal(err)
			}
			compared := int64(600)
			if c.candidate == nil {
				compared = 0
			}
			if n.Report.Answers != compared || n.Candidate.Count() != compared || n.Failed != 2*int64(c.failed) || n.Dropped[shadow.Busy] != 600 {
				t.Errorf("%+v", n)
			}
			if name == "differs" && (len(n.Report.Worst) != shadow.MaxWorst || n.Report.Worst[0].Champion != (record.ID{1}).String() || n.Report.Worst[0].Candidate != (record.ID{2}).String()) {
				t.Errorf("the worst are %+v", n.Report.Worst)
			}
			again, err := cqrs.Ask(as("key_a"), s.bus, ReplayRelease{ID: s.id})
			if err != nil || again.Differs != nil {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

// What cannot pass, or compares nothing, is refused before it begins.
func TestShadowsAreRefused(t *testing.T) {
	s := newStage(t, false)
	start := func(candidate string, step release.Step) error {
		step.Name = "s"
		_, err := s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "champion", Candidate: candidate, Steps: []release.Step{step}})
		return err
	}
	trial := func(w WeightlessArm) error {
		_, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 10000}}, Shadow: &w})
		return err
	}
	units, labels := agreeing, agreeing
	units.SampleRatio, labels.Quality = &evidence.SampleRatio{Alpha: 0.001}, &evidence.Quality{Worse: 0.1, MinLabels: 100}
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"no units":            {start("2", release.Step{Shadow: true, Policy: units}), "release_invalid"},
		"no labels":           {start("2", release.Step{Shadow: true, Policy: labels}), "release_invalid"},
		"no sample":           {start("2", release.Step{Shadow: true, Shadowing: &shadow.Policy{}, Policy: agreeing}), "release_invalid"},
		"a canary's shadow":   {start("2", release.Step{Weight: 1, Shadowing: &shadow.Policy{Sample: 1, Config: shadow.DefaultConfig()}, Policy: agreeing}), "release_invalid"},
		"a graph":             {start("4", release.Step{Shadow: true, Policy: agreeing}), "shadow_graph"},
		"a graph, experiment": {trial(WeightlessArm{"b", "4", shadow.DefaultPolicy()}), "shadow_graph"},
		"state":               {start("5", release.Step{Shadow: true, Policy: agreeing}), "arms_stateful"},
		"state, experiment":   {trial(WeightlessArm{"b", "5", shadow.DefaultPolicy()}), "arms_stateful"},
		"no version":          {trial(WeightlessArm{"b", "9", shadow.DefaultPolicy()}), "version_missing"},
		"the arm itself":      {trial(WeightlessArm{"b", "1", shadow.DefaultPolicy()}), "experiment_arms"},
		"an arm's name":       {trial(WeightlessArm{"a", "2", shadow.DefaultPolicy()}), "experiment_arms"},
		"a sample of nothing": {trial(WeightlessArm{"b", "2", shadow.Policy{}}), "shadow_config"},
	} {
		if fault.CodeOf(c.err) != c.code {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if _, err := cqrs.Ask(as("key_a"), s.bus, FindShadow{Holder: "rel_2"}); fault.CodeOf(err) != "shadow_not_found" {
		t.Error(err)
	}
}

// An experiment's shadow gets copies of the first arm's requests until it is
// stopped, and keeps its version from being deleted.
func TestExperimentWithShadow(t *testing.T) {
	s := newStage(t, false)
	x, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 10000}},
		Shadow: &WeightlessArm{"b", "3", shadow.Policy{Sample: 0.5, Config: shadow.DefaultConfig()}}})
	if err != nil || x.State.Shadow == nil || x.State.Shadow.Version != 3 {
		t.Fatalf("%+v, %v", x, err)
	}
	if err := s.follower.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	split := s.router.names["m"][""].Split
	if split.Shadow == nil || split.Shadow.Name != "b" || split.Shadow.Digest != digest(3) || split.Shadow.Sample != 0.5 {
		t.Fatalf("%+v", split)
	}
	split.Shadow.Judge.Failed()
	for _, tally := range s.follower.Tallies().all() {
		if err := tally.write(t.Context(), s.store, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := cqrs.Ask(as("key_a"), s.bus, FindShadow{Holder: "exp_1"}); err != nil || n.Failed != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	if why, err := Uses(t.Context(), s.store.Read(repo.Scope{Actor: "system"}), "m", 3); err != nil || why == "" {
		t.Errorf("the shadow's version may go: %q, %v", why, err)
	}
	if _, err := s.service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.follower.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.router.names["m"][""].Split; got != nil || len(s.follower.Tallies().all()) != 0 {
		t.Errorf("after the end: %+v", got)
	}
}
