package scenario

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Assertion is what must hold of a phase.
type Assertion struct {
	Metric string `yaml:"metric"`
	Of     string `yaml:"of"`    // traffic; none for memory
	Phase  string `yaml:"phase"` // none means all of them together
	// RelativeTo makes the value a multiple of the same in another phase, or, of
	// recovery, says which phase is normal.
	RelativeTo string   `yaml:"relative_to"`
	AtMost     *float64 `yaml:"at_most"`
	AtLeast    *float64 `yaml:"at_least"`
	// Slack, in the metric's own unit, is how much more than in the other phase is
	// too little to matter.
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

func (s *Scenario) checkAssertion(a Assertion) error {
	ofServer := slices.Contains([]string{"memory", "memory_growth", "acted"}, a.Metric)
	switch {
	case Metrics[a.Metric] == "":
		return fmt.Errorf("there is no metric %q", a.Metric)
	case (a.AtMost == nil) == (a.AtLeast == nil):
		return fmt.Errorf("it is either at_most or at_least")
	case a.AtMost != nil && math.IsNaN(*a.AtMost) || a.AtLeast != nil && math.IsNaN(*a.AtLeast):
		return fmt.Errorf("what it is compared with must be a number")
	case ofServer != (a.Of == "") || a.Of != "" && s.traffic(a.Of) == nil:
		return fmt.Errorf("it must be of some traffic, and of none where it is the server's")
	case a.Phase != "" && s.phase(a.Phase) < 0 || a.RelativeTo != "" && s.phase(a.RelativeTo) < 0:
		return fmt.Errorf("there is no such phase")
	case (a.Metric == "recovery" || a.Metric == "memory_growth") && (a.Phase == "" || a.RelativeTo == ""):
		return fmt.Errorf("it needs a phase, and one that it is relative to")
	case a.Metric == "goodput_share" && a.Phase == "":
		return fmt.Errorf("it needs a phase")
	}
	return nil
}

// Verdict is an assertion and what was measured.
type Verdict struct {
	Assertion string  `json:"assertion"`
	Measured  float64 `json:"measured"`
	Unit      string  `json:"unit"`
	Holds     bool    `json:"holds"`
}

// ofMemory reports whether it is of the memory of servers of ours.
func (a Assertion) ofMemory() bool { return a.Metric == "memory" || a.Metric == "memory_growth" }

// judge compares an assertion with what was seen.
func (r *run) judge(a Assertion) Verdict {
	v := Verdict{Assertion: a.String(), Unit: Metrics[a.Metric]}
	switch {
	case a.Metric == "recovery":
		v.Measured = r.series[a.Of].recovery(r.s.phase(a.Phase), r.s.phase(a.RelativeTo)).Seconds()
	case a.Metric == "memory_growth":
		v.Measured = r.memory.most(r.s.phase(a.Phase)) - r.memory.most(r.s.phase(a.RelativeTo))
	case a.RelativeTo != "":
		here, there := r.value(a, a.Phase), r.value(a, a.RelativeTo)
		v.Measured, v.Unit = here/max(there, 1e-9), "x"
		if a.AtMost != nil && here-there <= a.Slack {
			v.Holds = true
			return v
		}
	default:
		v.Measured = r.value(a, a.Phase)
	}
	v.Holds = a.AtMost != nil && v.Measured <= *a.AtMost || a.AtLeast != nil && v.Measured >= *a.AtLeast
	return v
}

// value returns a metric of a phase, or of all of them.
func (r *run) value(a Assertion, phase string) float64 {
	switch a.Metric {
	case "memory":
		return r.memory.most(r.s.phase(phase))
	case "acted":
		return float64(r.acted)
	}
	cells := r.series[a.Of].phases
	c, length := sum(cells), r.s.length()
	if i := r.s.phase(phase); i >= 0 {
		c, length = &cells[i], r.s.Phases[i].For
	}
	quantiles := map[string]float64{"p50": .5, "p90": .9, "p99": .99, "p999": .999, "max": 1}
	if q, ok := quantiles[a.Metric]; ok {
		return millis(c.Latency.Quantile(q))
	}
	due := float64(max(c.Due, 1))
	switch a.Metric {
	case "success":
		return float64(c.OK) / due
	case "failed":
		return float64(c.Failed)
	case "unsent":
		return float64(c.Unsent)
	case "refused":
		return float64(c.Refused) / due
	case "goodput":
		return float64(c.Good) / length.Seconds()
	case "goodput_share":
		return r.goodput(cells, r.s.phase(phase)) / max(r.best(cells), 1e-9)
	case "first_p99":
		return millis(c.First.Quantile(.99))
	case "served_p99":
		return millis(c.Served.Quantile(.99))
	default: // refusal_p99
		return millis(c.Refusal.Quantile(.99))
	}
}

// goodput is what was answered in time within a phase: by when it was due, a phase at whose end
// a queue is full would have the answers to all of it.
func (r *run) goodput(cells []Cell, phase int) float64 {
	return float64(cells[phase].Ended) / r.s.Phases[phase].For.Seconds()
}

// best is the goodput of the best phase.
func (r *run) best(cells []Cell) (best float64) {
	for i := range cells {
		best = max(best, r.goodput(cells, i))
	}
	return best
}

func sum(cells []Cell) *Cell {
	total := &Cell{}
	for i := range cells {
		c := &cells[i]
		total.Due, total.OK, total.Good, total.Ended = total.Due+c.Due, total.OK+c.OK, total.Good+c.Good, total.Ended+c.Ended
		total.Refused, total.Failed, total.Unsent = total.Refused+c.Refused, total.Failed+c.Failed, total.Unsent+c.Unsent
		total.Latency.Add(&c.Latency)
		total.First.Add(&c.First)
		total.Refusal.Add(&c.Refusal)
		total.Queued.Add(&c.Queued)
		total.Served.Add(&c.Served)
	}
	return total
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// memory is the servers' resident memory over the run.
type memory struct {
	begin time.Time
	ends  []time.Duration
	at    []time.Duration
	mb    []float64
}

// most returns the most that it was in a phase, or ever.
func (m *memory) most(phase int) (most float64) {
	for i, at := range m.at {
		if phase < 0 || at < m.ends[phase] && (phase == 0 || at >= m.ends[phase-1]) {
			most = max(most, m.mb[i])
		}
	}
	return most
}
