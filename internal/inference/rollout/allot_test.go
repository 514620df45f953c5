package rollout

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/experiment/bandit"
	"sluice/internal/inference/record"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
)

// clicks is a prediction log in which an arm has better labels, and the other one a label
// beyond all measure.
type clicks struct{}

// Shapes implements PredictionLog.
func (clicks) Shapes(context.Context, record.Filter) (record.Shapes, error) { return nil, nil }

func (clicks) Identity(context.Context) (string, error) { return "log", nil }

func (clicks) Scores(_ context.Context, w record.Window) (record.Scores, error) {
	s := record.Scores{}
	if w.Experiment != "exp_1" {
		return s, nil
	}
	for i := range 200 {
		for arm, mean := range map[string]float64{"a": 0.2, "b": 0.8} {
			var m sequential.Moments
			m.Add(mean + float64(i%2)/10)
			s.Add(arm, "clicked", m)
		}
	}
	if w.Within == nil {
		var m sequential.Moments
		m.Add(1e9)
		s.Add("a", "clicked", m)
	}
	return s, nil
}

// The arm that is better gets most units, the other one its floor; who had an arm
// that did not shrink keeps it; all of it is in the events, and follows from them.
func TestBanditAllocates(t *testing.T) {
	for name, b := range map[string]Bandit{"success": {Every: MinEvery}, "label": {Label: "clicked", Range: &[2]float64{0, 1}, Every: MinEvery}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, false)
			var err error
			counted := Counted{s.store}
			if s.judge, err = NewDriver(s.store, s.bus, counted, DriverConfig{Allocator: NewAllocator(s.bus, counted)}); err != nil {
				t.Fatal(err)
			}
			reader, err := NewReader(s.store, clicks{}, TurnConfig{})
			if err != nil {
				t.Fatal(err)
			}
			x, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 9000}, {"b", "2", 1000}}, Bandit: &b})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cqrs.Send(as("key_a"), s.bus, Reweigh{ID: "exp_1", Arms: []experiment.Arm{{Name: "a", Weight: 1}, {Name: "b", Weight: 9999}}, Expect: Expectation{Any: true}}); fault.CodeOf(err) != "experiment_allocated" {
				t.Errorf("a person reweighs: %v", err)
			}
			refresh := func() {
				t.Helper()
				if err := s.follower.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			refresh()
			split := s.router.names["m"][""].Split
			for i := range 400 {
				split.Arms[0].Meter.Answered(experiment.ByUnit, time.Millisecond)
				if i%2 == 0 {
					split.Arms[0].Meter.Failed(experiment.ByUnit)
				}
				split.Arms[1].Meter.Answered(experiment.ByUnit, time.Millisecond)
			}
			for _, tally := range s.follower.Tallies().all() {
				if err := tally.write(t.Context(), s.store, "a"); err != nil {
					t.Fatal(err)
				}
			}
			reader.Round(t.Context(), "log")
			for range 200 { // the clock goes on with every look
				s.judge.Round(t.Context())
			}
			after, err := cqrs.Ask(as("key_a"), s.bus, FindExperiment{ID: "exp_1"})
			if err != nil {
				t.Fatal(err)
			}
			arms := after.State.Config.Allocation.Arms()
			if arms[0] != (experiment.Arm{Name: "a", Weight: bandit.Floor}) || arms[1].Weight != experiment.Total-bandit.Floor {
				t.Fatalf("%+v", arms)
			}
			if moved := x.State.Config.Allocation.Moved(after.State.Config.Allocation); moved != 8900 {
				t.Errorf("%d slots have moved, want 8900", moved)
			}
			if after.Version != x.Version+1 {
				t.Errorf("%d allocations of the same observations", after.Version-x.Version)
			}
			if d := after.State.Decision; d == nil || d.Replay() != nil || after.UpdatedBy != "system" {
				t.Errorf("%+v by %s", d, after.UpdatedBy)
			}
			refresh()
			if again := s.router.names["m"][""].Split; again == split || fmt.Sprint(again.Plan) == fmt.Sprint(split.Plan) {
				t.Error("the routing has not followed")
			}
		})
	}
}

// counts are requests of arms and how many of them failed.
func counts(of ...[2]int64) (arms []Measure) {
	for _, c := range of {
		var m Measure
		m.Numbers.Requests = sequential.Count{N: c[0], Hits: c[1]}
		arms = append(arms, m)
	}
	return arms
}

// Arms are compared within the times that had the same weights: who had most units during
// an outage that struck all is no worse for it.
func TestRatesOfSeveralWeightings(t *testing.T) {
	for name, c := range map[string]struct {
		weightings [][]Measure
		want       []sequential.Count
	}{
		"nothing":          {nil, nil},
		"one arm only":     {[][]Measure{counts([2]int64{100, 1}, [2]int64{0, 0})}, nil},
		"one weighting":    {[][]Measure{counts([2]int64{900, 90}, [2]int64{100, 20})}, []sequential.Count{{N: 900, Hits: 810}, {N: 100, Hits: 80}}},
		"an outage of all": {[][]Measure{counts([2]int64{900, 0}, [2]int64{100, 0}), counts([2]int64{100, 50}, [2]int64{900, 450})}, []sequential.Count{{N: 360, Hits: 270}, {N: 360, Hits: 270}}},
	} {
		var all standard
		for _, w := range c.weightings {
			all.add(w)
		}
		got := all.counts()
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestBanditsAreRefused(t *testing.T) {
	s := newStage(t, false)
	two := []WeightedArm{{"a", "1", 9000}, {"b", "2", 1000}}
	start := func(arms []WeightedArm, b Bandit) error {
		_, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: arms, Bandit: &b})
		return err
	}
	for name, err := range map[string]error{
		"too often": start(two, Bandit{Every: time.Minute}),
		"never":     start(two, Bandit{Every: 2 * MaxEvery}),
		"one arm":   start([]WeightedArm{{"a", "1", 10000}}, Bandit{Every: time.Hour}),
		"no range":  start(two, Bandit{Label: "x", Every: time.Hour, Range: &[2]float64{1, 1}}),
		"turned":    start(two, Bandit{Label: "x", Every: time.Hour, Range: &[2]float64{5, -5}}),
		"no number": start(two, Bandit{Label: "x", Every: time.Hour, Range: &[2]float64{math.NaN(), 1}}),
		"no bound":  start(two, Bandit{Label: "x", Every: time.Hour, Range: &[2]float64{0, math.Inf(1)}}),
		"no label":  start(two, Bandit{Every: time.Hour, Range: &[2]float64{0, 1}}),
	} {
		if fault.CodeOf(err) != "experiment_allocation" {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.service.Unlogged = true
	if err := start(two, Bandit{Label: "x", Every: time.Hour}); fault.CodeOf(err) != "experiment_allocation" {
		t.Errorf("labels without a log: %v", err)
	}
}
