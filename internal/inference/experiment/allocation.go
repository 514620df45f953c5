package experiment

import (
	"encoding/json"
	"slices"

	"sluice/internal/platform/fault"
)

// Total is what the weights of an experiment's arms add up to, and the number
// of slots: a weight is in basis points, hundredths of a percent.
const Total = 10_000

// MaxArms is the most arms of an experiment.
const MaxArms = 64

// Arm is one of the alternatives of an experiment.
type Arm struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"` // basis points of the units, 0 to Total
}

// Allocation divides Total slots among arms. A unit has the same slot as long
// as the experiment lives, so the arm of a unit changes only where its slot
// changes hands. An Allocation is immutable and safe for concurrent use; the
// zero value has no arms.
//
// As JSON it has the arms and runs of slots, [arm's index, slots] each, so
// that a history of reweighting is not needed to restore it.
type Allocation struct {
	arms  []Arm
	slots []uint8 // an index into arms for each slot
}

// Allocate gives each arm a contiguous range of slots.
func Allocate(arms ...Arm) (*Allocation, error) { return new(Allocation).Reweight(arms...) }

// Arms returns the arms. The slice must not be changed.
func (a *Allocation) Arms() []Arm { return a.arms }

// index returns the arm of a name, or -1.
func (a *Allocation) index(name string) int {
	return slices.IndexFunc(a.arms, func(arm Arm) bool { return arm.Name == name })
}

// Reweight returns an allocation of the given arms in which as few slots as
// possible have changed hands. Arms that are not given lose all slots.
//
// An arm keeps its first slots up to its new weight, and those that are over
// go to the arms that want more. So exactly sum(max(0, old-new)) slots move,
// over all arms. Fewer cannot: an arm of which old slots were filled and which
// may keep new of them must give up the rest. That is the total variation
// distance of the two weightings, the least share of units that any assignment
// with these weights has to move.
func (a *Allocation) Reweight(arms ...Arm) (*Allocation, error) {
	if err := validateArms(arms); err != nil {
		return nil, err
	}
	next := &Allocation{arms: slices.Clone(arms), slots: make([]uint8, Total)}
	wants := make([]int, len(arms))
	heir := make([]int, len(a.arms)) // old index to new index, or -1
	for i, arm := range arms {
		wants[i] = arm.Weight
	}
	for i, arm := range a.arms {
		heir[i] = next.index(arm.Name)
	}
	var free []int
	for slot := range Total {
		if slot < len(a.slots) {
			if i := heir[a.slots[slot]]; i >= 0 && wants[i] > 0 {
				next.slots[slot] = uint8(i)
				wants[i]--
				continue
			}
		}
		free = append(free, slot)
	}
	for i, want := range wants {
		for _, slot := range free[:want] {
			next.slots[slot] = uint8(i)
		}
		free = free[want:]
	}
	return next, nil
}

// Moved returns how many slots have another arm, by name, in b than in a.
func (a *Allocation) Moved(b *Allocation) int {
	moved := 0
	for slot := range min(len(a.slots), len(b.slots)) {
		if a.arms[a.slots[slot]].Name != b.arms[b.slots[slot]].Name {
			moved++
		}
	}
	return moved
}

// validateArms refuses arms that are no allocation.
func validateArms(arms []Arm) error {
	if len(arms) == 0 || len(arms) > MaxArms {
		return fault.New(fault.Unprocessable, "an experiment has 1 to %d arms, this one has %d", MaxArms, len(arms)).WithCode("experiment_arms")
	}
	sum, seen := 0, map[string]bool{}
	for _, arm := range arms {
		switch {
		case arm.Name == "" || len(arm.Name) > MaxText:
			return fault.New(fault.Unprocessable, "the name of an arm has 1 to %d bytes, %q has %d", MaxText, fault.Clip(arm.Name, 64), len(arm.Name)).WithCode("experiment_arms")
		case seen[arm.Name]:
			return fault.New(fault.Unprocessable, "the arm %q is there twice: give each a name of its own", arm.Name).WithCode("experiment_arms")
		case arm.Weight < 0 || arm.Weight > Total:
			return fault.New(fault.Unprocessable, "the weight of the arm %q is %d, expected 0 to %d basis points", arm.Name, arm.Weight, Total).WithCode("experiment_weights")
		}
		seen[arm.Name] = true
		sum += arm.Weight
	}
	if sum != Total {
		return fault.New(fault.Unprocessable, "the weights of the arms add up to %d basis points, expected %d", sum, Total).WithCode("experiment_weights")
	}
	return nil
}

// allocationJSON is the form of an Allocation as JSON.
type allocationJSON struct {
	Arms []Arm    `json:"arms"`
	Runs [][2]int `json:"runs"` // an arm's index, and how many slots it has from here on
}

// MarshalJSON implements json.Marshaler.
func (a *Allocation) MarshalJSON() ([]byte, error) {
	out := allocationJSON{Arms: a.arms, Runs: [][2]int{}}
	for _, arm := range a.slots {
		if n := len(out.Runs); n > 0 && out.Runs[n-1][0] == int(arm) {
			out.Runs[n-1][1]++
		} else {
			out.Runs = append(out.Runs, [2]int{int(arm), 1})
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. It refuses slots that do not fit
// the weights.
func (a *Allocation) UnmarshalJSON(data []byte) error {
	var in allocationJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fault.Wrap(fault.Invalid, err, "an allocation cannot be read").WithCode("experiment_allocation")
	}
	if err := validateArms(in.Arms); err != nil {
		return err
	}
	slots := make([]uint8, 0, Total)
	has := make([]int, len(in.Arms))
	for _, run := range in.Runs {
		arm, n := run[0], run[1]
		if arm < 0 || arm >= len(in.Arms) || n < 1 || n > Total-len(slots) {
			return fault.New(fault.Invalid, "the run of slots %d is not one of %d arms within %d slots", run, len(in.Arms), Total).WithCode("experiment_allocation")
		}
		has[arm] += n
		for range n {
			slots = append(slots, uint8(arm))
		}
	}
	for i, arm := range in.Arms {
		if has[i] != arm.Weight {
			return fault.New(fault.Invalid, "the arm %q has %d slots, but its weight is %d", arm.Name, has[i], arm.Weight).WithCode("experiment_allocation")
		}
	}
	a.arms, a.slots = in.Arms, slots
	return nil
}
