package job

import (
	"cmp"
	"time"
)

// Priority orders the predictions of one tenant that wait in the store. Between
// tenants it decides nothing.
type Priority string

// The priorities.
const (
	High   Priority = "high"
	Normal Priority = "normal" // what an empty one means
	Low    Priority = "low"
)

// priorities has them, the most urgent first.
var priorities = [...]Priority{High, Normal, Low}

// held is what Waits is of a prediction that no worker can run at present; of one
// that waits for room in the queue it is its priority.
const held = "held"

// announced is where a prediction stands that is queued and waits for a worker
// only.
const announced = "announced"

// stands says where a queued prediction is: announced, or what Waits says; empty of
// any other.
func (p *Prediction) stands() string {
	if p.Status != Queued {
		return ""
	}
	return cmp.Or(p.Waits, announced)
}

// Urgency returns the prediction's priority.
func (p *Prediction) Urgency() Priority { return cmp.Or(p.Priority, Normal) }

// Park leaves a prediction that was just accepted in the store, until there is room
// in the queue. It is due with its deadline only.
func (p *Prediction) Park() {
	p.Waits, p.Due = string(p.Urgency()), p.within(never)
}

// letIn says whether somebody has to be told now of a prediction that has waited
// for room, and notes that.
func (p *Prediction) letIn(now time.Time, t Timing) bool {
	switch {
	case p.Status != Queued, p.Waits == "", p.Waits == held:
		return false
	case p.late(now):
		p.end(Expired, now, t)
		return false
	}
	p.Waits, p.Due = "", p.within(now.Add(t.Notice))
	return true
}
