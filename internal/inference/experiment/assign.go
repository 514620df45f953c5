package experiment

import (
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Request is what an assignment looks at.
type Request interface {
	// Value returns a value of the request, and the empty text for one that it
	// does not have. name is empty for Tenant and RequestID.
	Value(from Source, name string) string
}

// Reason says why a request has its arm.
type Reason uint8

// The reasons. Only requests that have their arm ByUnit or ByRequest are
// compared with each other: whom a rule chose differs from the others.
const (
	Outside   Reason = iota // no experiment, or a rule keeps the request out
	ByRule                  // a rule gave it to the arm
	ByUnit                  // the hash of its unit; the unit's next request has the same arm
	ByRequest               // the hash of its id: it has no unit
)

// Assignment is the arm that serves a request.
type Assignment struct {
	Arm    int // index among the allocation's arms; -1 outside of the experiment
	Name   string
	Reason Reason
}

// outside is what a request has that no arm serves.
var outside = Assignment{Arm: -1}

// Assign returns the arm for a request. It does not allocate.
func (p *Plan) Assign(r Request) Assignment {
	for i := range p.rules {
		if rule := &p.rules[i]; rule.holds(r) {
			if rule.arm < 0 {
				return outside
			}
			return p.assignment(rule.arm, ByRule)
		}
	}
	for i := range p.unit {
		if unit := r.Value(p.unit[i].From, p.unit[i].Name); unit != "" {
			reason := ByUnit
			if p.unit[i].From == RequestID {
				reason = ByRequest
			}
			return p.assignment(p.arm(unit), reason)
		}
	}
	return p.assignment(p.arm(r.Value(RequestID, "")), ByRequest)
}

func (p *Plan) assignment(arm int, reason Reason) Assignment {
	return Assignment{arm, p.allocation.arms[arm].Name, reason}
}

func (p *Plan) arm(unit string) int { return int(p.allocation.slots[slotOf(p.seed, unit)]) }

func (r *rule) holds(req Request) bool {
	for i := range r.when {
		c := &r.when[i]
		if _, found := slices.BinarySearch(c.In, req.Value(c.From, c.Name)); found == c.Not {
			return false
		}
	}
	return true
}

// seedOf makes the hash's seed of a salt. Both functions are part of what is
// stored: with others, units would change arms.
func seedOf(salt string) uint64 { return xxhash.Sum64String(salt) }

// slotOf returns the slot of a unit: its XXH64, as a fraction of 2^64, times
// Total. Unlike a remainder this favours no slot by more than 1 in 2^50.
func slotOf(seed uint64, unit string) int {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(unit) // never fails
	slot, _ := bits.Mul64(d.Sum64(), Total)
	return int(slot)
}
