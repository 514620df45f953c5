package scenario

import (
	"slices"

	"sluice/loadtest/plot"
)

// line draws something of every second.
func (t *Outcome) line(name string, look plot.Look, of func(Figure) float64) plot.Line {
	l := plot.Line{Name: t.Name + " " + name, Look: look}
	for i, s := range t.Seconds {
		l.X, l.Y = append(l.X, float64(i)+.5), append(l.Y, of(s))
	}
	return l
}

func (r *Report) latency() plot.Chart {
	c := plot.Chart{Title: r.Scenario + ": latency of what was due in each second", X: "s", Y: "ms", Log: true, Marks: r.marks}
	for i := range r.Traffic {
		t := &r.Traffic[i]
		c.Lines = append(c.Lines, t.line("p50", plot.Look{Of: i, Dash: 1}, func(f Figure) float64 { return f.P50 }), t.line("p99", plot.Look{Of: i}, func(f Figure) float64 { return f.P99 }))
	}
	return c
}

// rates draws what was due and what was answered in time, and the other outcomes where there were any.
func (r *Report) rates() plot.Chart {
	c := plot.Chart{Title: r.Scenario + ": requests a second", X: "s", Y: "1/s", Marks: r.marks}
	for i := range r.Traffic {
		t := &r.Traffic[i]
		for dash, kind := range []struct {
			name   string
			always bool
			of     func(Figure) float64
		}{
			{"in time", true, func(f Figure) float64 { return float64(f.Good) }},
			{"due", true, func(f Figure) float64 { return float64(f.Due) }},
			{"refused", false, func(f Figure) float64 { return float64(f.Refused) }},
			{"failed", false, func(f Figure) float64 { return float64(f.Failed) }},
			{"unsent", false, func(f Figure) float64 { return float64(f.Unsent) }},
		} {
			if kind.always || slices.ContainsFunc(t.Seconds, func(f Figure) bool { return kind.of(f) > 0 }) {
				c.Lines = append(c.Lines, t.line(kind.name, plot.Look{Of: i, Dash: dash}, kind.of))
			}
		}
	}
	return c
}
