package scenario

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Assertion is what must hold of a phase.
type Assertion struct {
	Metric string `yaml:"metric"`
	Of     string `yaml:"of"`    // traffic; none for memory
	Phase  string `yaml:"phase"` // none means all of them together
	// RelativeTo makes the value a multiple of that in another phase; for recovery
	// it names the phase that is normal.
	RelativeTo string   `yaml:"relative_to"`
	AtMost     *float64 `yaml:"at_most"`
	AtLeast    *float64 `yaml:"at_least"`
	// Slack, in the metric's own unit, is how far the value may be above that in the
	// other phase whatever the multiple.
	Slack float64 `yaml:"slack"`
}

// Metrics are what can be asserted, with their units.
var Metrics = map[string]string{
	"success": "of all due", "failed": "requests", "unsent": "requests", "refused": "of all due", "goodput": "/s", "goodput_share": "of the best phase",
	"p50": "ms", "p90": "ms", "p99": "ms", "p999": "ms", "max": "ms", "first_p99": "ms", "served_p99": "ms", "refusal_p99": "ms",
	"recovery": "s", "memory": "MB", "memory_growth": "MB", "acted": "actions",
}

func (a Assertion) String() string {
	s := a.Metric
	if a.Of != "" {
		s += " of " + a.Of
	}
	if a.Phase != "" {
		s += " in " + a.Phase
	}
	if a.RelativeTo != "" {
		s += " relative to " + a.RelativeTo
	}
	if a.AtMost != nil {
		s += " at most " + number(*a.AtMost)
	}
	if a.AtLeast != nil {
		s += " at least " + number(*a.AtLeast)
	}
	return s
}

// ofMemory reports whether it is about memory, which is measured of our servers only.
func (a Assertion) ofMemory() bool { return a.Metric == "memory" || a.Metric == "memory_growth" }

// relative reports whether it bounds a multiple of the value in another phase.
func (a Assertion) relative() bool {
	return a.RelativeTo != "" && a.Metric != "recovery" && a.Metric != "memory_growth"
}

func (s *Scenario) checkAssertion(a Assertion) error {
	t := s.traffic(a.Of)
	ofServer := a.ofMemory() || a.Metric == "acted"
	switch {
	case Metrics[a.Metric] == "":
		return unknown("metric", a.Metric, slices.Sorted(maps.Keys(Metrics)))
	case (a.AtMost == nil) == (a.AtLeast == nil):
		return errors.New("it needs either at_most or at_least")
	case !finite(a.AtMost) || !finite(a.AtLeast):
		return errors.New("what it is compared with must be a number")
	case a.Of != "" && t == nil:
		return unknown("traffic", a.Of, s.trafficNames())
	case ofServer && t != nil:
		return errors.New("it is measured of the server: leave of out")
	case !ofServer && t == nil:
		return errors.New("it needs the name of some traffic (of)")
	case (a.Metric == "recovery" || a.Metric == "memory_growth") && (a.Phase == "" || a.RelativeTo == ""):
		return errors.New("it needs a phase, and one that it is relative to")
	case a.Metric == "goodput_share" && a.Phase == "":
		return errors.New("it needs a phase")
	case a.Metric == "recovery" && a.AtMost == nil:
		return errors.New("recovery is at_most so many seconds")
	case a.Metric == "first_p99" && !streams(t.Protocol):
		return fmt.Errorf("answers of %s have no events", t.Protocol)
	}
	for _, phase := range []string{a.Phase, a.RelativeTo} {
		switch {
		case phase == "":
		case s.phase(phase) < 0:
			return unknown("phase", phase, s.phaseNames())
		case t != nil && t.rate(phase).Value == 0:
			return fmt.Errorf("traffic %s has no rate in phase %s: nothing would be measured", t.Name, phase)
		}
	}
	return nil
}

// finite reports whether a bound, if given, is a finite number.
func finite(v *float64) bool { return v == nil || !math.IsNaN(*v) && !math.IsInf(*v, 0) }
