package rollout

import (
	"fmt"
	"testing"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/release"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

// What scores of a label can be is known of what is under way, and of nothing else.
func TestRanges(t *testing.T) {
	s := newStage(t, false)
	says := func(id, label, want string) {
		t.Helper()
		got, err := Ranges(t.Context(), s.store.Read(repo.Scope{}), id, label)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s of %s: %v, %v, want %s", label, id, got, err, want)
		}
	}
	_, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 9000}, {"b", "2", 1000}},
		Bandit: &Bandit{Label: "stars", Range: &[2]float64{1, 5}, Every: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	says("exp_1", "stars", "[[1 5]]")
	says("exp_1", "clicked", "[]")
	says("exp_2", "stars", "[]")
	says("exp_1/fallback", "stars", "[]")
	says("rel_1", "stars", "[]")
	if _, err := s.service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_1"}); err != nil {
		t.Fatal(err)
	}
	says("exp_1", "stars", "[]")
	quality := func(of *[2]float64) evidence.Policy {
		return evidence.Policy{Alpha: 0.05, MinRequests: 100, Quality: &evidence.Quality{Worse: 0.2, MinLabels: 100, Range: of}}
	}
	_, err = s.service.StartRelease(as("key_a"), "rel_1", StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: []release.Step{
		{Name: "one", Weight: 100, Policy: quality(nil)}, {Name: "two", Weight: 5000, Policy: quality(&[2]float64{-1, 1})}}})
	if err != nil {
		t.Fatal(err)
	}
	says("rel_1", evidence.DefaultLabel, "[[0 1] [-1 1]]")
	says("rel_1", "stars", "[]")
	if _, err := cqrs.Send(as("key_a"), s.bus, ActOnRelease{ID: "rel_1", Action: RollBack, Expect: Expectation{Any: true}}); err != nil {
		t.Fatal(err)
	}
	says("rel_1", evidence.DefaultLabel, "[]")
}
