package release

import (
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/platform/eventstore"
)

// Outcome is what follows from a judgement.
type Outcome string

// The outcomes.
const (
	Hold    Outcome = "hold"    // nothing yet
	Advance Outcome = "advance" // to the next step, or to the end
	Ask     Outcome = "ask"     // for an approval
	Stop    Outcome = "stop"    // at this step: it took too long
	Revert  Outcome = "revert"  // to the champion
)

// Started says that a release has begun, with its first step.
type Started struct {
	Plan Plan `json:"plan"`
}

// Judged says what a step was judged by, and what followed. It comes before
// what followed, and alone where the verdict has changed and nothing followed.
type Judged struct {
	Step     int               `json:"step"`
	Elapsed  time.Duration     `json:"elapsed_ns"` // since the step began
	Stay     time.Duration     `json:"stay_ns"`    // since it began or was last resumed
	Outcome  Outcome           `json:"outcome"`
	Decision evidence.Decision `json:"decision"`
}

// Advanced says that the next step has begun.
type Advanced struct {
	Step   int `json:"step"`
	Weight int `json:"weight"`
}

// ApprovalRequested says that a step has passed and waits for somebody.
type ApprovalRequested struct {
	Step int `json:"step"`
}

// Approved says that somebody has agreed to what follows a step.
type Approved struct {
	Step int `json:"step"`
}

// Halted says that the release stays where it is.
type Halted struct {
	Step      int    `json:"step"`
	Reason    string `json:"reason"`
	Automatic bool   `json:"automatic,omitempty"`
}

// Resumed says that the release goes on.
type Resumed struct {
	Step int `json:"step"`
}

// Shipped says that the candidate is the champion.
type Shipped struct{}

// Reverted says that the champion serves all units again.
type Reverted struct {
	Step      int    `json:"step"`
	Reason    string `json:"reason"`
	Automatic bool   `json:"automatic,omitempty"`
}

// EventType implements aggregate.Event.
func (Started) EventType() string { return "release.started" }

// EventType implements aggregate.Event.
func (Judged) EventType() string { return "release.judged" }

// EventType implements aggregate.Event.
func (Advanced) EventType() string { return "release.advanced" }

// EventType implements aggregate.Event.
func (ApprovalRequested) EventType() string { return "release.approval_requested" }

// EventType implements aggregate.Event.
func (Approved) EventType() string { return "release.approved" }

// EventType implements aggregate.Event.
func (Halted) EventType() string { return "release.paused" }

// EventType implements aggregate.Event.
func (Resumed) EventType() string { return "release.resumed" }

// EventType implements aggregate.Event.
func (Shipped) EventType() string { return "release.promoted" }

// EventType implements aggregate.Event.
func (Reverted) EventType() string { return "release.rolled_back" }

func codec() *eventstore.Codec {
	c := eventstore.NewCodec()
	eventstore.Register[Started](c)
	eventstore.Register[Judged](c)
	eventstore.Register[Advanced](c)
	eventstore.Register[ApprovalRequested](c)
	eventstore.Register[Approved](c)
	eventstore.Register[Halted](c)
	eventstore.Register[Resumed](c)
	eventstore.Register[Shipped](c)
	eventstore.Register[Reverted](c)
	return c
}
