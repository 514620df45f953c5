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

// priorities are all of them, the most urgent first.
var priorities = [...]Priority{High, Normal, Low}

// held is the Waits of a prediction that no worker can run at present. One that waits for
// room in the queue has its priority there.
const held = "held"

// announced is where a queued prediction stands that only waits for a worker.
const announced = "announced"

// stands returns where a queued prediction is: announced, or what Waits says; "" for any
// other.
func (p *Prediction) stands() string {
	if p.Status != Queued {
		return ""
	}
	return cmp.Or(p.Waits, announced)
}

// Urgency returns the prediction's priority.
func (p *Prediction) Urgency() Priority { return cmp.Or(p.Priority, Normal) }

// Park leaves a prediction that was just accepted in the store until there is room in the
// queue. Until then only its deadline makes it due.
func (p *Prediction) Park() {
	p.Waits, p.Due = string(p.Urgency()), p.within(never)
}

// letIn returns whether a prediction that has waited for room has to be announced now, and
// notes that.
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
