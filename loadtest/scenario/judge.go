package scenario

import (
	"fmt"
	"strconv"

	"sluice/loadtest/load"
)

// Verdict is an assertion and what was measured.
type Verdict struct {
	Assertion string  `json:"assertion"`
	Measured  float64 `json:"measured"`
	Unit      string  `json:"unit"`
	Holds     bool    `json:"holds"`
	// Unmeasured says why there is no value, such as that nothing was answered. The assertion does not hold then.
	Unmeasured string `json:"unmeasured,omitempty"`
}

// measured is what was measured, for people.
func (v Verdict) measured() string {
	if v.Unmeasured != "" {
		return v.Unmeasured
	}
	return number(v.Measured) + " " + v.Unit
}

// reading is a value, or why there is none.
type reading struct {
	value float64
	none  string
}

// judge compares an assertion with what was seen.
func (r *run) judge(a Assertion) Verdict {
	v := Verdict{Assertion: a.String(), Unit: Metrics[a.Metric]}
	if a.relative() {
		v.Unit = "x"
	}
	seen := r.read(a)
	v.Measured, v.Unmeasured = seen.value, seen.none
	if v.Unmeasured == "" {
		v.Holds = a.AtMost != nil && (v.Measured <= *a.AtMost || r.slight(a)) || a.AtLeast != nil && v.Measured >= *a.AtLeast
	}
	return v
}

// read returns what an assertion is about.
func (r *run) read(a Assertion) reading {
	switch {
	case a.Metric == "recovery":
		return r.recovery(a)
	case a.RelativeTo == "":
		return r.value(a, a.Phase)
	}
	here, there := r.value(a, a.Phase), r.value(a, a.RelativeTo)
	switch {
	case here.none != "":
		return here
	case there.none != "":
		return reading{none: "in " + a.RelativeTo + ": " + there.none}
	case a.Metric == "memory_growth":
		return reading{value: here.value - there.value}
	case there.value == 0 && a.AtLeast != nil: // anything would be an infinite multiple of it
		return reading{none: "it is 0 in " + a.RelativeTo}
	}
	return reading{value: here.value / max(there.value, 1e-9)}
}

// slight reports whether a value exceeds that in the other phase by no more than the slack.
func (r *run) slight(a Assertion) bool {
	return a.Slack > 0 && a.relative() && r.value(a, a.Phase).value-r.value(a, a.RelativeTo).value <= a.Slack
}

func (r *run) recovery(a Assertion) reading {
	series, phase, before := r.series[a.Of], r.s.phase(a.Phase), r.s.phase(a.RelativeTo)
	switch {
	case series.phases[before].OK == 0:
		return reading{none: "in " + a.RelativeTo + ": nothing was answered"}
	case series.phases[phase].OK == 0:
		return reading{none: "nothing was answered"}
	}
	after, came := series.recovery(phase, before)
	if !came {
		return reading{none: fmt.Sprintf("it never came in %s", r.s.Phases[phase].For)}
	}
	return reading{value: after.Seconds()}
}

// value returns a metric of a phase, or of all of them.
func (r *run) value(a Assertion, phase string) reading {
	switch a.Metric {
	case "memory", "memory_growth":
		if most := r.memory.most(r.s.phase(phase)); most > 0 {
			return reading{value: most}
		}
		return reading{none: "memory was not measured"}
	case "acted":
		return reading{value: float64(r.acted)}
	}
	cells := r.series[a.Of].phases
	c, length := sum(cells), r.s.length()
	if i := r.s.phase(phase); i >= 0 {
		c, length = &cells[i], r.s.Phases[i].For
	}
	if c.Due == 0 {
		return reading{none: "nothing was due"}
	}
	if p, ok := percentiles[a.Metric]; ok {
		return p.of(c)
	}
	due := float64(c.Due)
	switch a.Metric {
	case "success":
		return reading{value: float64(c.OK) / due}
	case "failed":
		return reading{value: float64(c.Failed)}
	case "unsent":
		return reading{value: float64(c.Unsent)}
	case "refused":
		return reading{value: float64(c.Refused) / due}
	case "goodput":
		return reading{value: float64(c.Good) / length.Seconds()}
	}
	best := r.best(cells) // goodput_share
	if best == 0 {
		return reading{none: "nothing was answered in time in any phase"}
	}
	return reading{value: r.goodput(cells, r.s.phase(phase)) / best}
}

// percentile says how a metric that is one is read from a phase.
type percentile struct {
	times func(*Cell) *load.Histogram
	q     float64
	none  string // what is said where there is no time
	lost  bool   // what was not sent, or failed, counts as later than all
}

var percentiles = map[string]percentile{
	"p50": answered(.5), "p90": answered(.9), "p99": answered(.99), "p999": answered(.999), "max": answered(1),
	"first_p99":   {func(c *Cell) *load.Histogram { return &c.First }, .99, "no answer had an event", true},
	"served_p99":  {func(c *Cell) *load.Histogram { return &c.Served }, .99, "no answer says how long the server took", false},
	"refusal_p99": {func(c *Cell) *load.Histogram { return &c.Refusal }, .99, "nothing was refused", false},
}

func answered(q float64) percentile {
	return percentile{func(c *Cell) *load.Histogram { return &c.Latency }, q, "nothing was answered", true}
}

// of reads the percentile of a phase.
func (p percentile) of(c *Cell) reading {
	times, lost := p.times(c), 0
	if times.Count() == 0 {
		return reading{none: p.none}
	}
	if p.lost {
		lost = c.lost()
	}
	at, beyond := times.Beside(lost, p.q)
	if beyond {
		return reading{none: fmt.Sprintf("above %s ms: of %d due %d were not sent for want of a connection, and %d failed", number(millis(at)), c.Due, c.Unsent, c.Failed)}
	}
	return reading{value: millis(at)}
}

// goodput is the rate of answers in time that came within a phase. Counted by when they were due, a phase
// that ends with a full queue would be credited with answers that came later.
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

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
