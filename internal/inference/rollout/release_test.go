package rollout

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/release"
	"sluice/internal/inference/route"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// shown is the evidence of tests: so many requests of each arm, of which so many
// failed.
type shown struct{ baseline, candidate sequential.Count }

func (s *shown) Measure(context.Context, *LoadedRelease) (evidence.Measured, error) {
	return evidence.Measured{Baseline: evidence.Numbers{Requests: s.baseline}, Candidate: evidence.Numbers{Requests: s.candidate}}, nil
}

var (
	nothing = shown{}
	good    = shown{sequential.Count{N: 5000}, sequential.Count{N: 5000}}
	bad     = shown{sequential.Count{N: 5000}, sequential.Count{N: 5000, Hits: 2500}}
)

func steps(weights ...int) (all []release.Step) {
	for i, w := range weights {
		all = append(all, release.Step{Name: string(rune('a' + i)), Weight: w, Policy: evidence.Policy{Alpha: 0.05, MinRequests: 100, ErrorRate: &evidence.ErrorRate{Worse: 0.1}}})
	}
	return all
}

// stage is a bed with a release of version 2 of m for an alias on version 1, its
// driver and a node's routing.
type stage struct {
	*bed
	evidence *shown
	judge    *Driver
	service  *Service
	router   *router
	follower *Follower
	id       release.ID
}

func newStage(t testing.TB, protected bool, weights ...int) *stage {
	t.Helper()
	s := &stage{bed: newBed(t), evidence: new(shown), router: &router{}, id: "rel_1"}
	s.set(t, "key_a", route.Default, "1", protected)
	s.service = NewService(s.bus, s.shelf)
	var err error
	if s.follower, err = NewFollower(s.store, silent{}, s.router, FollowerConfig{}); err != nil {
		t.Fatal(err)
	}
	if s.judge, err = NewDriver(s.store, s.bus, s.evidence, DriverConfig{}); err != nil {
		t.Fatal(err)
	}
	if len(weights) > 0 {
		if _, err := s.service.StartRelease(as("key_a"), s.id, StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: steps(weights...)}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// round has the driver look once, and returns the release and the alias as they are
// then, with how the alias is routed.
func (s *stage) round(t testing.TB, e shown) (release.State, Alias, route.Name) {
	t.Helper()
	*s.evidence = e
	s.judge.Round(t.Context())
	if err := s.follower.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
	if err != nil {
		t.Fatal(err)
	}
	a, err := cqrs.Ask(as("key_a"), s.bus, FindAlias{Model: "m", Alias: "champion"})
	if err != nil {
		t.Fatal(err)
	}
	return r.State, a.State, s.router.names["m"]["champion"]
}

func (s *stage) replays(t testing.TB) {
	t.Helper()
	r, err := cqrs.Ask(as("key_a"), s.bus, ReplayRelease{ID: s.id})
	if err != nil || r.Differs != nil || r.Events == 0 {
		t.Errorf("replayed: %+v, %v", r, err)
	}
}

// Of a history that cannot be read nobody is told that it was changed.
func TestUnreadHistoriesDoNotDiffer(t *testing.T) {
	s := newStage(t, false, 100)
	s.replays(t)
	s.driver.deaf = true
	r, err := cqrs.Ask(as("key_a"), s.bus, ReplayRelease{ID: s.id})
	coded(t, "without a store", err, "store_unavailable")
	if r.Differs != nil && err == nil {
		t.Errorf("the history differs: %v", r.Differs)
	}
}

// A candidate that is as good walks step by step to the alias; nothing happens
// without numbers, and the alias changes hands in one step.
func TestGoodCandidateIsPromoted(t *testing.T) {
	s := newStage(t, false, 100, 5000)
	for _, c := range []struct {
		e       shown
		status  release.Status
		step    int
		version int64
		divided bool
	}{
		{nothing, release.Running, 0, 1, true},
		{good, release.Running, 1, 1, true},
		{nothing, release.Running, 1, 1, true},
		{good, release.Promoted, 2, 2, false},
		{bad, release.Promoted, 2, 2, false},
	} {
		r, a, n := s.round(t, c.e)
		if r.Status != c.status || r.Step != c.step || a.Version != c.version || n.Version != c.version || (n.Split != nil) != c.divided || (a.Holder != "") != c.divided {
			t.Fatalf("%+v: %s at %d, alias %+v, name %+v", c, r.Status, r.Step, a, n)
		}
	}
	changes, err := cqrs.Ask(as("key_a"), s.bus, AliasHistory{Model: "m", Alias: "champion", Limit: 10})
	if err != nil || len(changes) != 2 || changes[1].Release != string(s.id) || changes[1].Digest != "d2" {
		t.Errorf("history: %+v, %v", changes, err)
	}
	s.replays(t)
}

// Between the end of a release and its alias following, and where it is rolled
// back, requests go where the release says.
func TestRoutingFollowsTheRelease(t *testing.T) {
	s := newStage(t, false, 100)
	if _, _, n := s.round(t, nothing); n.Split == nil || n.Split.Arms[1].Meter == nil || n.Split.ID != string(s.id) {
		t.Fatalf("%+v", n)
	}
	err := s.store.Do(t.Context(), repo.Scope{Actor: "system"}, func(ctx context.Context, tx *repo.Tx) error {
		r, err := release.Releases.Get(ctx, tx, s.id)
		if err == nil {
			*s.evidence = good
			err = s.judge.assess(ctx, &r)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.follower.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := s.router.names["m"][""]
	u := request("anybody")
	if n.Version != 1 || n.Split == nil || n.Split.Plan.Assign(&u).Name != release.Candidate {
		t.Errorf("promoted, and the alias still to follow: %+v", n)
	}
}

// request is one with a unit.
type request string

func (r *request) Value(from experiment.Source, name string) string {
	if from == experiment.Header && name == experiment.HeaderUnit {
		return string(*r)
	}
	return ""
}

// A candidate that is worse goes back by itself, also while somebody is asked.
func TestBadCandidateIsRolledBack(t *testing.T) {
	for name, protected := range map[string]bool{"running": false, "waiting": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, protected, 100)
			if protected {
				if r, _, _ := s.round(t, good); r.Status != release.Waiting {
					t.Fatalf("of a protected alias: %s", r.Status)
				}
			}
			r, a, n := s.round(t, bad)
			if r.Status != release.RolledBack || r.Reason == "" || a.Holder != "" || a.Version != 1 || n.Version != 1 || n.Split != nil {
				t.Errorf("%s because %q, alias %+v, name %+v", r.Status, r.Reason, a, n)
			}
			s.replays(t)
		})
	}
}

// A protected alias is promoted by somebody else only, and what people do is
// conditional.
func TestReleaseByPeople(t *testing.T) {
	s := newStage(t, true, 100)
	act := func(by string, a Action) error {
		_, err := cqrs.Send(as(by), s.bus, ActOnRelease{ID: s.id, Action: a, Expect: Expectation{Any: true}})
		return err
	}
	want := func(err error, code string) {
		t.Helper()
		if code == "" && err != nil || code != "" && fault.CodeOf(err) != code {
			t.Errorf("%v, want %q", err, code)
		}
	}
	want(act("key_b", Agree), "release_not_waiting")
	want(act("key_a", Pause), "")
	if r, _, _ := s.round(t, good); r.Status != release.Paused {
		t.Errorf("paused: %s", r.Status)
	}
	want(act("key_a", Resume), "")
	s.round(t, good)
	want(act("key_a", Agree), "approval_by_requester")
	_, err := cqrs.Send(as("key_b"), s.bus, ActOnRelease{ID: s.id, Action: Agree, Expect: Expectation{Version: 1}})
	want(err, "version_mismatch")
	want(act("key_b", Agree), "")
	if r, a, _ := s.round(t, good); r.Status != release.Promoted || a.Version != 2 || !a.Protected {
		t.Errorf("approved: %s, %+v", r.Status, a)
	}
	want(act("key_a", RollBack), "release_over")
	s.replays(t)
}

// While something divides an alias's requests nothing else changes it; what a crash
// has left is freed after a while.
func TestHolds(t *testing.T) {
	s := newStage(t, false, 100)
	_, err := s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "champion", Candidate: "3", Steps: steps(100)})
	arms := []WeightedArm{{"a", "1", 5000}, {"b", "2", 5000}}
	_, other := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: arms})
	_, set := cqrs.Send(as("key_a"), s.bus, SetAlias{Model: "m", Alias: "champion", Version: "3", Expect: Expectation{Any: true}})
	for _, err := range []error{err, other, set} {
		if fault.CodeOf(err) != "alias_held" {
			t.Errorf("%v", err)
		}
	}
	s.set(t, "key_a", "other", "1", false)
	if _, err := cqrs.Send(as("key_a"), s.bus, holdAlias{model: "m", alias: "other", holder: "exp_lost", version: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 120 { // seconds, and more: every look takes one
		s.judge.Round(t.Context())
		a, err := cqrs.Ask(as("key_a"), s.bus, FindAlias{Model: "m", Alias: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if a.State.Holder == "" {
			if i == 0 {
				t.Error("it was freed at once: whoever holds it may be about to begin")
			}
			return
		}
	}
	t.Error("what nothing holds was not freed")
}

// Mistakes are told before anything is held.
func TestMistakesHoldNothing(t *testing.T) {
	s := newStage(t, false)
	start := func(c StartExperiment) error {
		c.Model, c.Alias = "m", "champion"
		_, err := s.service.StartExperiment(as("key_a"), "exp_1", c)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"no arms":         {start(StartExperiment{}), "experiment_arms"},
		"weights":         {start(StartExperiment{Arms: []WeightedArm{{"a", "1", 1}}}), "experiment_weights"},
		"no version":      {start(StartExperiment{Arms: []WeightedArm{{"a", "9", 10000}}}), "version_missing"},
		"state":           {start(StartExperiment{Arms: []WeightedArm{{"a", "1", 5000}, {"b", "5", 5000}}}), "arms_stateful"},
		"rule of no arm":  {start(StartExperiment{Arms: []WeightedArm{{"a", "1", 10000}}, Rules: []experiment.Rule{{When: []experiment.Condition{{Key: experiment.Key{From: experiment.Tenant}, In: []string{"x"}}}, Arm: "z"}}}), "experiment_invalid"},
		"shadow":          {second(s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "champion", Candidate: "2", Steps: []release.Step{{Name: "s", Shadow: true, Shadowing: &shadow.Policy{}, Policy: steps(1)[0].Policy}}})), "release_invalid"},
		"champion itself": {second(s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "champion", Candidate: "1", Steps: steps(100)})), "release_invalid"},
		"no alias":        {second(s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "none", Candidate: "1", Steps: steps(100)})), "alias_not_found"},
		"no steps":        {second(s.service.StartRelease(as("key_a"), "rel_2", StartRelease{Model: "m", Alias: "champion", Candidate: "2"})), "release_invalid"},
	} {
		if fault.CodeOf(c.err) != c.code {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if a, err := cqrs.Ask(as("key_a"), s.bus, FindAlias{Model: "m", Alias: "champion"}); err != nil || a.State.Holder != "" {
		t.Errorf("%+v, %v", a, err)
	}
}

func second[T any](_ T, err error) error { return err }

// An experiment divides requests until it is stopped; its weights change, its arms
// do not.
func TestExperiment(t *testing.T) {
	s := newStage(t, false)
	arms := []WeightedArm{{"a", "1", 5000}, {"b", "2", 5000}}
	x, err := s.service.StartExperiment(as("key_a"), "exp_1", StartExperiment{Model: "m", Alias: "champion", Arms: arms})
	if err != nil {
		t.Fatal(err)
	}
	now := func() *route.Split {
		t.Helper()
		if err := s.follower.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.router.names["m"][""].Split
	}
	split := now()
	if split == nil || split.ID != "exp_1" || len(split.Arms) != 2 || split.Arms[1].Digest != "d2" {
		t.Fatalf("%+v", split)
	}
	if now() != split {
		t.Error("what has not changed was made anew")
	}
	weigh := func(e Expectation, arms ...experiment.Arm) error {
		_, err := cqrs.Send(as("key_a"), s.bus, Reweigh{ID: "exp_1", Arms: arms, Expect: e})
		return err
	}
	for _, c := range []struct {
		err  error
		code string
	}{
		{weigh(Expectation{Version: 7}, experiment.Arm{Name: "b", Weight: 9000}, experiment.Arm{Name: "a", Weight: 1000}), "version_mismatch"},
		{weigh(Expectation{Version: x.Root.Version}, experiment.Arm{Name: "a", Weight: 10000}), "experiment_arms"},
		{weigh(Expectation{Version: x.Root.Version}, experiment.Arm{Name: "a", Weight: 5000}, experiment.Arm{Name: "c", Weight: 5000}), "experiment_arms"},
		{weigh(Expectation{Version: x.Root.Version}, experiment.Arm{Name: "a", Weight: 5000}, experiment.Arm{Name: "b", Weight: 6000}), "experiment_weights"},
		{weigh(Expectation{Version: x.Root.Version}, experiment.Arm{Name: "b", Weight: 9000}, experiment.Arm{Name: "a", Weight: 1000}), ""},
	} {
		if c.code == "" && c.err != nil || c.code != "" && fault.CodeOf(c.err) != c.code {
			t.Errorf("%v, want %s", c.err, c.code)
		}
	}
	before := split.Plan
	if split = now(); split.Plan == before {
		t.Fatal("the weights are not in effect")
	}
	moved := 0
	for i := range 10_000 {
		u := request(string(rune('a'+i%26)) + time.Duration(i).String())
		was, is := before.Assign(&u).Name, split.Plan.Assign(&u).Name
		if was == "b" && is != "b" {
			t.Fatalf("%s left the arm that has grown", u)
		}
		if was != is {
			moved++
		}
	}
	if moved < 3500 || moved > 4500 {
		t.Errorf("%d of 10000 units moved, want 4000", moved)
	}
	for range 2 {
		if _, err := s.service.StopExperiment(as("key_a"), StopExperiment{ID: "exp_1"}); err != nil {
			t.Fatal(err)
		}
	}
	if split = now(); split != nil {
		t.Errorf("stopped: %+v", split)
	}
	if err := weigh(Expectation{Any: true}, experiment.Arm{Name: "a", Weight: 5000}, experiment.Arm{Name: "b", Weight: 5000}); fault.CodeOf(err) != "experiment_stopped" {
		t.Errorf("stopped: %v", err)
	}
	s.set(t, "key_a", route.Default, "3", false) // it is free
}

// What nodes count of a step adds up, whoever asks.
func TestCountsAddUp(t *testing.T) {
	s := newStage(t, false, 2500)
	r, err := cqrs.Ask(as("key_a"), s.bus, FindRelease{ID: s.id})
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*Tallies{newTallies(), newTallies()}
	var counting sync.WaitGroup
	for i, node := range nodes {
		for range 4 {
			counting.Go(func() {
				t := node.of(stepOf(r), r.State.Allocation.Arms())
				for n := range 1000 {
					t.arms[0].Answered(experiment.ByUnit, time.Duration(n)*time.Microsecond)
					t.arms[0].Answered(experiment.ByRule, time.Hour)
					t.arms[1].Answered(experiment.ByRequest, time.Millisecond)
					if n%10 == 0 {
						t.arms[1].Failed(experiment.ByRequest)
						t.arms[1].Spared(experiment.ByRequest) // bulk work is no unit
					}
				}
			})
		}
		counting.Wait()
		for range 2 { // what has not grown is not written again
			if err := node.of(stepOf(r), nil).write(t.Context(), s.store, string(rune('a'+i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	m, err := Counted{s.store}.Measure(t.Context(), r)
	if err != nil || m.Baseline.Requests != (sequential.Count{N: 8000}) || m.Candidate.Requests != (sequential.Count{N: 9600, Hits: 800}) {
		t.Errorf("%+v, %v", m, err)
	}
	if len(m.Units) != 1 || m.Units[0].Counts[0] != 0 || m.Units[0].Counts[1] != 8800 || m.Units[0].Weights[1] != 0.25 {
		t.Errorf("%+v", m.Units)
	}
	if q := m.Baseline.Latency.Quantile(0.5); q < 480*time.Microsecond || q > 520*time.Microsecond {
		t.Errorf("the median is %s", q)
	}
	nodes[0].retain(map[string]*split{})
	if len(nodes[0].all()) != 0 {
		t.Error("what is over is not forgotten")
	}
}
