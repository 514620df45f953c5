package release

import (
	"testing"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
)

// A step that waits for an evaluation is the first, and is judged by nothing else; no other
// step is judged by one.
func TestReplaySteps(t *testing.T) {
	step := ReplayStep(Replaying{"acme", "eval_1"}, evidence.Replay{MinRows: 1})
	later := Step{Name: "later", Weight: 100, Policy: evidence.Policy{Alpha: 0.05, MinRequests: 1, ErrorRate: &evidence.ErrorRate{Worse: 0.1}}}
	plan := func(steps ...Step) Plan {
		return Plan{Model: "m", Alias: "a", Champion: "1", Candidate: "2", Steps: steps}
	}
	if err := plan(step, later).Validate(); err != nil {
		t.Error(err)
	}
	change := func(s Step, do func(*Step)) Step { do(&s); return s }
	for name, p := range map[string]Plan{
		"second":           plan(change(later, func(s *Step) { s.Weight, s.Shadow = 0, true }), step),
		"with a weight":    plan(change(step, func(s *Step) { s.Weight = 100 }), later),
		"a shadow, too":    plan(change(step, func(s *Step) { s.Shadow = true }), later),
		"shadowing":        plan(change(step, func(s *Step) { s.Shadowing = new(shadow.DefaultPolicy()) }), later),
		"more guardrails":  plan(change(step, func(s *Step) { s.Policy.ErrorRate = later.Policy.ErrorRate }), later),
		"no evaluation":    plan(change(step, func(s *Step) { s.Replay = new(Replaying) }), later),
		"no such step":     plan(change(step, func(s *Step) { s.Replay, s.Shadow = nil, true }), later),
		"no guardrail":     plan(change(step, func(s *Step) { s.Policy = later.Policy }), later),
		"a weight, judged": plan(change(later, func(s *Step) { s.Policy.Replay = step.Policy.Replay })),
	} {
		if err := p.Validate(); fault.CodeOf(err) != "release_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var s State
	events, err := Start(plan(step, later))
	if err != nil {
		t.Fatal(err)
	}
	Apply(&s, events[0], s.EnteredAt)
	if s.Shadowing() != nil || s.Allocation.Arms()[1].Weight != 0 {
		t.Errorf("the candidate has requests: %+v", s.Allocation.Arms())
	}
}
