// Package release walks a candidate to the champion's place, step by step: from
// shadow traffic over a share of the units that grows to all of them. Each step
// ends by a judgement of package evidence, or by a person.
//
// A release is event-sourced. What it was judged by is in its events, with all
// the numbers, so every step can be judged again and must come to the same:
// Replay does that for a whole history. The decisions here are pure functions of
// the state, the numbers and the time; eventstore.Source appends what they
// return.
//
// A candidate that is worse than allowed is promoted only if every step is wrong about
// it: the chance of that is at most the least alpha of all steps. The chance that one
// which is not worse is rolled back is at most the sum of the alphas.
package release

import (
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/experiment"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/spec"
)

// ID is the id of a release, rel_….
type ID string

// Prefix is how ids of releases begin.
const Prefix = "rel"

// Status is where a release is on its way.
type Status string

// The states. The last two are final.
const (
	Running    Status = "running"
	Waiting    Status = "awaiting_approval" // the step has passed, and somebody has to agree
	Paused     Status = "paused"            // it stays at its step until somebody resumes it
	Promoted   Status = "promoted"
	RolledBack Status = "rolled_back"
)

// Final reports whether nothing more can happen.
func (s Status) Final() bool { return s == Promoted || s == RolledBack }

// The names of the arms.
const (
	Champion  = "champion"
	Candidate = "candidate"
)

// State is a release as its events have made it.
type State struct {
	Plan   Plan   `json:"plan"`
	Status Status `json:"status"`
	Step   int    `json:"step"` // index among the plan's steps; their number once promoted
	// EnteredAt is when the step began: the numbers that it is judged by are from
	// then on.
	EnteredAt time.Time `json:"entered_at"`
	// Since is when the step began or was last resumed.
	Since time.Time `json:"since"`
	// Verdict is the latest of the step, empty before the first.
	Verdict evidence.Verdict `json:"verdict,omitempty"`
	// Reason says why it was paused or rolled back.
	Reason string `json:"reason,omitempty"`
	// Allocation says which units the candidate serves. While its share grows, units that
	// have the candidate keep it.
	Allocation *experiment.Allocation `json:"allocation"`
}

// step returns the current step; there is none once the release is over.
func (s *State) step() *Step { return &s.Plan.Steps[s.Step] }

// Shadowing says which requests the candidate gets copies of, whose answers are only
// compared; nil for none.
func (s *State) Shadowing() *shadow.Policy {
	if s.Status.Final() || !s.step().Shadow {
		return nil
	}
	p := s.step().Shadows()
	return &p
}

var (
	model  = spec.TextField("model", func(s *State) string { return s.Plan.Model })
	alias  = spec.TextField("alias", func(s *State) string { return s.Plan.Alias })
	status = spec.TextField("status", func(s *State) Status { return s.Status })
)

// OfModel selects the releases of a model.
func OfModel(name string) spec.Spec[State] { return model.Eq(name) }

// Live selects the releases that are not over.
func Live() spec.Spec[State] { return status.In(Running, Waiting, Paused) }

// Releases keeps them.
var Releases = eventstore.Source[ID, State]{
	Name: "releases", Codec: codec(), Apply: Apply, Form: 1, Columns: []spec.Column[State]{model, alias, status},
}

// Apply changes the state by what has happened.
func Apply(s *State, e aggregate.Event, at time.Time) {
	switch e := e.(type) {
	case Started:
		s.Plan, s.Status = e.Plan, Running
		s.Allocation, _ = experiment.Allocate(arms(0)...) // these weights are right
		s.enter(0, at)
	case Judged:
		s.Verdict = e.Decision.Judgement.Verdict
	case Advanced:
		s.Status = Running
		s.enter(e.Step, at)
	case ApprovalRequested:
		s.Status = Waiting
	case Halted:
		s.Status, s.Reason = Paused, e.Reason
	case Resumed:
		s.Status, s.Reason, s.Since = Running, "", at
	case Shipped:
		s.Status, s.Step = Promoted, len(s.Plan.Steps)
		s.serve(experiment.Total)
	case Reverted:
		s.Status, s.Reason = RolledBack, e.Reason
		s.serve(0)
	}
}

// enter begins a step.
func (s *State) enter(step int, at time.Time) {
	s.Step, s.EnteredAt, s.Since, s.Verdict = step, at, at, ""
	s.serve(s.step().Weight)
}

// serve gives the candidate a share of the units.
func (s *State) serve(weight int) {
	if next, err := s.Allocation.Reweight(arms(weight)...); err == nil { // a plan's weights are checked
		s.Allocation = next
	}
}

func arms(weight int) []experiment.Arm {
	return []experiment.Arm{{Name: Champion, Weight: experiment.Total - weight}, {Name: Candidate, Weight: weight}}
}
