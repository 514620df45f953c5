package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"sluice/loadtest/load"
)

// Rate is arrivals per second, or a multiple of the capacity ("1.5x").
type Rate struct {
	Value    float64
	Relative bool
}

// UnmarshalYAML reads "20" or "1.5x".
func (r *Rate) UnmarshalYAML(n *yaml.Node) error {
	text, relative := strings.CutSuffix(n.Value, "x")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0) || v > 1e7 {
		return fmt.Errorf("line %d: a rate is a number such as 20, or a multiple of the capacity such as 1.5x, not %q", n.Line, n.Value)
	}
	*r = Rate{v, relative}
	return nil
}

func (r Rate) String() string {
	s := strconv.FormatFloat(r.Value, 'g', -1, 64)
	if r.Relative {
		return s + "x"
	}
	return s + "/s"
}

// of returns the rate in arrivals per second.
func (r Rate) of(capacity float64) float64 {
	if r.Relative {
		return r.Value * capacity
	}
	return r.Value
}

// rate returns that of a phase.
func (t *Traffic) rate(phase string) Rate {
	if own, ok := t.Rate[phase]; ok {
		return own
	}
	return t.Rate["all"]
}

// steps returns the rates of traffic over all phases.
func (s *Scenario) steps(t *Traffic, capacity float64) []load.Step {
	var steps []load.Step
	for _, p := range s.Phases {
		v := t.rate(p.Name).of(capacity)
		if t.Burst == nil {
			steps = append(steps, load.Step{Rate: v, For: p.For})
			continue
		}
		for left := p.For; left > 0; {
			on := min(left, t.Burst.For)
			off := min(left-on, t.Burst.Every-t.Burst.For)
			steps = append(steps, load.Step{Rate: v * t.Burst.Factor, For: on}, load.Step{Rate: v, For: off})
			left -= on + off
		}
	}
	return steps
}

// arrivals returns the arrivals of traffic.
func (s *Scenario) arrivals(t *Traffic, capacity float64, seed uint64) load.Arrivals {
	return load.Steps(s.steps(t, capacity), t.Arrivals == "poisson", seed)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
