package release

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
)

// Start begins a release by a plan. The last step of a protected alias gets an
// approval whether the plan says so or not.
func Start(p Plan) ([]aggregate.Event, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Steps = slices.Clone(p.Steps); p.Protected {
		p.Steps[len(p.Steps)-1].Approval = true
	}
	return []aggregate.Event{Started{p}}, nil
}

// Assess judges the step by what was measured since it began, and returns what
// follows: no events where nothing has changed. A release that waits or is paused can
// only fail. now is the time of the unit of work that appends the events.
func (s *State) Assess(m evidence.Measured, now time.Time) ([]aggregate.Event, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	d, err := evidence.Decide(s.step().Policy, m)
	if err != nil {
		return nil, err
	}
	j := Judged{Step: s.Step, Elapsed: now.Sub(s.EnteredAt), Stay: now.Sub(s.Since), Decision: d}
	j.Outcome = s.outcome(j)
	if j.Outcome == Hold && d.Judgement.Verdict == s.Verdict {
		return nil, nil
	}
	return append([]aggregate.Event{j}, s.follows(j)...), nil
}

// outcome is what follows from a judgement.
func (s *State) outcome(j Judged) Outcome {
	step := s.step()
	switch verdict := j.Decision.Judgement.Verdict; {
	case verdict == evidence.Fail:
		return Revert
	case s.Status != Running:
		return Hold
	case verdict == evidence.Pass && j.Elapsed >= step.MinDuration && step.Approval:
		return Ask
	case verdict == evidence.Pass && j.Elapsed >= step.MinDuration:
		return Advance
	case step.MaxDuration > 0 && j.Stay > step.MaxDuration:
		return Stop
	}
	return Hold
}

// follows returns the events of an outcome.
func (s *State) follows(j Judged) []aggregate.Event {
	switch j.Outcome {
	case Advance:
		return s.next()
	case Ask:
		return []aggregate.Event{ApprovalRequested{s.Step}}
	case Stop:
		return []aggregate.Event{Halted{s.Step, fmt.Sprintf("the step has come to nothing within %s", s.step().MaxDuration), true}}
	case Revert:
		return []aggregate.Event{Reverted{s.Step, failures(j.Decision.Judgement), true}}
	}
	return nil
}

// failures says which guardrails failed, and why.
func failures(j evidence.Judgement) string {
	var out []string
	for _, f := range j.Findings {
		if f.Verdict == evidence.Fail {
			out = append(out, f.Guardrail+": "+f.Message)
		}
	}
	return strings.Join(out, "; ")
}

// next ends the step.
func (s *State) next() []aggregate.Event {
	if n := s.Step + 1; n < len(s.Plan.Steps) {
		return []aggregate.Event{Advanced{n, s.Plan.Steps[n].Weight}}
	}
	return []aggregate.Event{Shipped{}}
}

// Approve agrees to what follows a step that waits for it. by must not be the
// requester of the release.
func (s *State) Approve(by, requester string) ([]aggregate.Event, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if s.Status != Waiting {
		return nil, fault.New(fault.Conflict, "the release is %s and waits for no approval", s.Status).WithCode("release_not_waiting")
	}
	if by == "" || by == requester {
		return nil, fault.New(fault.PermissionDenied, "who has requested a release cannot approve it: ask somebody else").WithCode("approval_by_requester")
	}
	return append([]aggregate.Event{Approved{s.Step}}, s.next()...), nil
}

// Pause keeps the release at its step. Pausing what is paused changes nothing.
func (s *State) Pause(reason string) ([]aggregate.Event, error) {
	if err := s.open(); err != nil || s.Status == Paused {
		return nil, err
	}
	return because(reason, Halted{Step: s.Step, Reason: reason})
}

// Resume lets a paused release go on. An approval that it was waiting for is
// asked for again.
func (s *State) Resume() ([]aggregate.Event, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if s.Status != Paused {
		return nil, fault.New(fault.Conflict, "the release is %s, not paused", s.Status).WithCode("release_not_paused")
	}
	return []aggregate.Event{Resumed{s.Step}}, nil
}

// RollBack gives all units back to the champion.
func (s *State) RollBack(reason string) ([]aggregate.Event, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	return because(reason, Reverted{Step: s.Step, Reason: reason})
}

// open refuses to change a release that is over.
func (s *State) open() error {
	if s.Status.Final() {
		return fault.New(fault.Conflict, "the release is %s: begin another", s.Status).WithCode("release_over")
	}
	return nil
}

// because returns an event that has a reason, which must not be too long.
func because(reason string, e aggregate.Event) ([]aggregate.Event, error) {
	if len(reason) > MaxText {
		return nil, fault.New(fault.Unprocessable, "the reason has %d bytes, at most %d are allowed", len(reason), MaxText).WithCode("reason_too_long")
	}
	return []aggregate.Event{e}, nil
}
