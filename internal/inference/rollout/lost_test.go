package rollout

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
)

func (s *stage) holder(t *testing.T) string {
	t.Helper()
	a, err := cqrs.Ask(as("key_a"), s.bus, FindAlias{Model: "m", Alias: "champion"})
	if err != nil {
		t.Fatal(err)
	}
	return a.State.Holder
}

// What may have been begun keeps its alias, and is returned to who asks again.
func TestUnknownOutcomeKeepsTheHold(t *testing.T) {
	s := newStage(t, false)
	ctx := context.WithValue(as("key_a"), repeated{}, uuid.Must(uuid.NewV7()))
	start := func() error {
		return second(s.service.StartRelease(ctx, s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)}))
	}
	s.driver.kind = release.Releases.Name
	if err := start(); !errors.Is(err, repo.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	if got := s.holder(t); got != string(s.id) {
		t.Fatalf("the alias is held by %q", got)
	}
	s.driver.kind = ""
	coded(t, "again", start(), "")
	if r, _, n := s.round(t, nothing); r.Status != release.Running || n.Split == nil {
		t.Errorf("%s, %+v", r.Status, n)
	}
}

// An attempt whose hold has ended meanwhile does not go on as if it had it.
func TestEndedHoldIsNoHold(t *testing.T) {
	s := newStage(t, false)
	ctx := context.WithValue(as("key_a"), repeated{}, uuid.Must(uuid.NewV7()))
	start := func() error {
		return second(s.service.StartRelease(ctx, s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(100)}))
	}
	s.driver.kind, s.driver.lose = release.Releases.Name, true
	if err := start(); !errors.Is(err, repo.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	s.driver.kind = ""
	for i := 0; s.holder(t) != ""; i++ { // every look takes a second, or more
		if i > 120 {
			t.Fatal("what was never begun keeps its hold")
		}
		s.judge.Round(t.Context())
	}
	coded(t, "again", start(), "hold_ended")
	if got := s.holder(t); got != "" {
		t.Errorf("the alias is held by %q", got)
	}
}

// What has lost its hold divides nothing, and is ended.
func TestNothingLivesUnheld(t *testing.T) {
	s := newStage(t, false, 100)
	s.set(t, "key_a", "other", "1", false)
	coded(t, "begun", second(s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "other", Arms: []WeightedArm{{"a", "1", 10000}}})), "")
	s.judge.Round(t.Context())
	if x, err := cqrs.Ask(as("key_a"), s.bus, FindExperiment{ID: "exp_1"}); err != nil || x.State.Stopped {
		t.Fatalf("held, and ended: %+v, %v", x, err)
	}
	for alias, id := range map[string]string{"champion": string(s.id), "other": "exp_1"} {
		coded(t, "freed", second(cqrs.Send(as("key_a"), s.bus, freeAlias{model: "m", alias: alias, holder: id})), "")
	}
	if r, _, n := s.round(t, good); r.Status != release.RolledBack || r.Reason != holdLost || n.Split != nil {
		t.Errorf("%s because %q, %+v", r.Status, r.Reason, n)
	}
	if x, err := cqrs.Ask(as("key_a"), s.bus, FindExperiment{ID: "exp_1"}); err != nil || !x.State.Stopped || x.State.Reason != holdLost {
		t.Errorf("%+v, %v", x, err)
	}
	s.replays(t)
}

// One experiment that cannot be understood keeps its last split, and stops nothing
// else from being routed.
func TestOneBrokenExperimentStopsNothing(t *testing.T) {
	s := newStage(t, false)
	coded(t, "begun", second(s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: []WeightedArm{{"a", "1", 10000}}})), "")
	refresh := func(f *Follower) {
		t.Helper()
		if err := f.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refresh(s.follower)
	before := s.router.names["m"][route.Default].Split
	err := s.store.Do(t.Context(), repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		_, err := Experiments.Append(ctx, tx, "exp_1", func(LoadedExperiment) ([]aggregate.Event, error) {
			return []aggregate.Event{ExperimentReweighted{}}, nil
		})
		return err
	})
	coded(t, "broken", err, "")
	s.set(t, "key_a", "other", "3", false)
	refresh(s.follower)
	if n := s.router.names["m"]; before == nil || n[route.Default].Split != before || n["other"].Version != 3 || testutil.ToFloat64(s.follower.skipped) != 1 {
		t.Errorf("%+v", n)
	}
	fresh := &router{}
	f, err := NewFollower(s.store, silent{}, fresh, FollowerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	refresh(f)
	if n := fresh.names["m"]; n[route.Default].Version != 1 || n[route.Default].Split != nil || n["other"].Version != 3 {
		t.Errorf("after a restart: %+v", n)
	}
}
