// Package experiment decides which arm of an experiment serves a request: the
// champion or a challenger, say.
//
// A unit, the user or the session of a request, has a slot that follows from a
// hash with the experiment's own salt, and the slots are divided among the arms
// by weight. So a unit stays with its arm without anybody remembering it, and
// being in one experiment's arm says nothing of the others. Rules come first:
// they give requests of a tenant, header or attribute to an arm, or keep them
// out. Assigning a request is a pure function of an immutable Plan.
//
// Known limits: a request without a unit is assigned by its own id, so its
// sender sees changing arms; a client that chooses its own unit can look for
// one whose arm it likes.
package experiment

import (
	"fmt"
	"slices"

	"sluice/internal/platform/fault"
)

// Bounds of a Config.
const (
	MaxText   = 128  // bytes of a salt, a name or a value
	MaxRules  = 64   // of an experiment, and conditions of a rule
	MaxValues = 1000 // of a condition
	MaxKeys   = 8    // that may hold a unit
)

// Source is where a value of a request comes from.
type Source string

// The sources. Tenant and RequestID have no names of their own.
const (
	Tenant    Source = "tenant"
	Header    Source = "header"
	Attribute Source = "attribute" // what the client says of itself or of the unit, a field of the body say
	RequestID Source = "request_id"
)

// Key names a value of a request.
type Key struct {
	From Source `json:"from"`
	Name string `json:"name,omitempty"` // of the header or attribute
}

// Condition holds where the value is one of In, or is none of them where Not is
// set. A value that is missing is the empty text.
type Condition struct {
	Key
	In  []string `json:"in"`
	Not bool     `json:"not,omitempty"`
}

// Rule gives the requests for which all conditions hold to an arm.
type Rule struct {
	When []Condition `json:"when"`
	// Arm is the name of the arm, or empty to keep these requests out of the
	// experiment: they are served as if there was none.
	Arm string `json:"arm,omitempty"`
}

// Config declares an experiment.
type Config struct {
	// Salt makes the experiment's assignment its own. It must not change while
	// the experiment lives, and not be used by another: the same units would be
	// the first in every canary.
	Salt       string      `json:"salt"`
	Allocation *Allocation `json:"allocation"`
	// Unit is where the unit is found: in the first of these that a request has.
	// Requests that have none are assigned by their id, each on its own.
	Unit []Key `json:"unit,omitempty"`
	// Rules are tried in order; the first that holds decides.
	Rules []Rule `json:"rules,omitempty"`
}

// Validate says all that is wrong with the experiment, each with a pointer.
func (c Config) Validate() error {
	var v violations
	v.add(c.Salt == "" || len(c.Salt) > MaxText, "/salt", "the salt has %d bytes, expected 1 to %d", len(c.Salt), MaxText)
	v.add(c.Allocation == nil || len(c.Allocation.slots) != Total, "/allocation", "the experiment has no arms: allocate them")
	v.add(len(c.Unit) > MaxKeys, "/unit", "a unit is looked for in %d places, at most %d are allowed", len(c.Unit), MaxKeys)
	v.add(len(c.Rules) > MaxRules, "/rules", "there are %d rules, at most %d are allowed", len(c.Rules), MaxRules)
	for i, k := range c.Unit {
		v.key(fmt.Sprintf("/unit/%d", i), k)
	}
	for i, r := range c.Rules {
		v.rule(fmt.Sprintf("/rules/%d", i), r, c.Allocation)
	}
	if len(v) == 0 {
		return nil
	}
	return fault.New(fault.Unprocessable, "the experiment has mistakes; the first: %s", v[0].Message).WithCode("experiment_invalid").WithDetails(v...)
}

// Plan is an experiment that is ready to assign requests. It is immutable and
// safe for concurrent use.
type Plan struct {
	seed       uint64
	allocation *Allocation
	unit       []Key
	rules      []rule
}

// rule is a Rule with its arm's index, and the values of its conditions sorted.
type rule struct {
	when []Condition
	arm  int // -1: out of the experiment
}

// Compile makes a plan of a valid experiment.
func Compile(c Config) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{seed: seedOf(c.Salt), allocation: c.Allocation, unit: slices.Clone(c.Unit)}
	for _, r := range c.Rules {
		when := slices.Clone(r.When)
		for i := range when {
			when[i].In = slices.Sorted(slices.Values(when[i].In))
		}
		p.rules = append(p.rules, rule{when, c.Allocation.index(r.Arm)})
	}
	return p, nil
}
