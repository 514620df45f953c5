package rollouthttp

import (
	"time"

	"sluice/internal/inference/rollout"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

// Allocation says how the arms of an experiment get their weights.
type Allocation struct {
	Kind        string      `json:"kind" enum:"fixed,thompson" doc:"fixed: the weights are those that somebody has given. thompson: each arm gets the share of the units that its chance of being the best is, at least 1 %, beginning with the given weights."`
	Reward      string      `json:"reward,omitempty" enum:"success,label" default:"success" doc:"Of thompson: which arm is better. success: the one of which fewer requests fail. label: the one whose labels have the greater mean score."`
	Label       string      `json:"label_name,omitempty" maxLength:"64" default:"label" doc:"Of the reward label: whose scores count."`
	Range       *[2]float64 `json:"range,omitempty" doc:"Of the reward label: the least and the greatest score; labels with others do not count. Without it 0 to 1."`
	Every       string      `json:"every,omitempty" maxLength:"20" default:"1h" doc:"Of thompson: how often the units are allocated anew, where something was observed meanwhile: 10m to 720h."`
	AllocatedAt *api.Time   `json:"allocated_at,omitempty" readOnly:"true"`
	Chances     []Chance    `json:"chances,omitempty" readOnly:"true" doc:"Of being the best, as of the latest allocation. They are for earning meanwhile: do not ship by them."`
}

// Chance is an arm's chance of being the best.
type Chance struct {
	Arm    string  `json:"arm"`
	Chance float64 `json:"chance"`
}

// ask returns what the service takes for it; nil keeps the weights.
func (a *Allocation) ask() (*rollout.Bandit, error) {
	if a == nil || a.Kind == "fixed" {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	b := &rollout.Bandit{Every: time.Hour}
	if a.Reward == "label" {
		if b.Label = a.Label; b.Label == "" {
			b.Label = "label"
		}
		b.Range = &[2]float64{0, 1}
	}
	if a.Range != nil { // of another reward it is refused
		b.Range = a.Range
	}
	if a.Every == "" {
		return b, nil
	}
	var err error
	if b.Every, err = time.ParseDuration(a.Every); err != nil {
		return nil, fault.New(fault.Unprocessable, "every is %q, expected a time such as 10m or 24h", a.Every).WithCode("experiment_allocation").
			WithDetails(fault.Detail{Pointer: "/allocation/every", Code: "experiment_allocation", Message: "expected a time such as 10m or 24h"})
	}
	return b, nil
}

func allocationView(x *rollout.Experiment) Allocation {
	b := x.Bandit
	if b == nil {
		return Allocation{Kind: "fixed"}
	}
	v := Allocation{Kind: "thompson", Reward: "success", Every: b.Every.String(), AllocatedAt: &api.Time{Time: x.AllocatedAt}}
	if b.Label != "" {
		v.Reward, v.Label, v.Range = "label", b.Label, b.Range
	}
	if d := x.Decision; d != nil {
		for i, chance := range d.Chances {
			v.Chances = append(v.Chances, Chance{d.Arms[i].Name, chance})
		}
	}
	return v
}
