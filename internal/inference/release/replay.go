package release

import (
	"encoding/json"
	"iter"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/fault"
)

// Replay goes through a history again and returns the state that it comes to.
// Each judgement must come of its numbers and of the step's policy, have been
// due in the state of its time, and be followed by what follows from it; else
// the error has the code history_differs or one of evidence.Decision.Replay.
func Replay(history iter.Seq2[eventstore.Recorded, error]) (State, error) {
	var (
		s   State
		due []aggregate.Event // what must come next
	)
	for r, err := range history {
		if err != nil {
			return s, err
		}
		if err := s.check(r, &due); err != nil {
			return s, err
		}
		Apply(&s, r.Event, r.Time)
	}
	if len(due) > 0 {
		return s, differs("the history ends where %s should follow", due[0].EventType())
	}
	return s, nil
}

// check compares an event with what may come in this state.
func (s *State) check(r eventstore.Recorded, due *[]aggregate.Event) error {
	if len(*due) > 0 {
		if want := (*due)[0]; !same(r.Event, want) {
			return differs("event %d is %s, where %s should follow", r.Sequence, r.EventType(), want.EventType())
		}
		*due = (*due)[1:]
		return nil
	}
	if _, first := r.Event.(Started); first != (s.Status == "") || s.Status.Final() {
		return differs("event %d, %s, cannot come in a release that is %q", r.Sequence, r.EventType(), s.Status)
	}
	switch e := r.Event.(type) {
	case Judged:
		if err := s.rejudge(r, e); err != nil {
			return err
		}
		*due = s.follows(e)
	case Approved:
		if s.Status != Waiting || e.Step != s.Step {
			return differs("event %d approves step %d of a release that is %s at step %d", r.Sequence, e.Step, s.Status, s.Step)
		}
		*due = s.next()
	case Advanced, Shipped, ApprovalRequested:
		return differs("event %d, %s, follows from nothing", r.Sequence, r.EventType())
	}
	return nil
}

// rejudge judges again.
func (s *State) rejudge(r eventstore.Recorded, j Judged) error {
	if j.Step != s.Step || j.Elapsed != r.Time.Sub(s.EnteredAt) || j.Stay != r.Time.Sub(s.Since) {
		return differs("event %d judges step %d after %s, but the release is at step %d since %s", r.Sequence, j.Step, j.Elapsed, s.Step, r.Time.Sub(s.EnteredAt))
	}
	if !same(j.Decision.Policy, s.step().Policy) {
		return differs("event %d judges by another policy than that of the step", r.Sequence)
	}
	if err := j.Decision.Replay(); err != nil {
		return err
	}
	if again := s.outcome(j); again != j.Outcome {
		return differs("event %d had the outcome %s, now it is %s", r.Sequence, j.Outcome, again)
	}
	return nil
}

// same compares two values as they are logged.
func same(a, b any) bool {
	x, err := json.Marshal(a)
	y, other := json.Marshal(b)
	return err == nil && other == nil && string(x) == string(y)
}

func differs(format string, args ...any) error {
	return fault.New(fault.Conflict, format, args...).WithCode("history_differs")
}
