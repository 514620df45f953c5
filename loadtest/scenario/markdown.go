package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Markdown is the report for people.
func (r *Report) Markdown() string {
	var b strings.Builder
	others := "others"
	if r.Foreign {
		others = "others, the server among them,"
	}
	fmt.Fprintf(&b, "# %s\n\n%s\n\n%s; %s took %.0f %% of the cores.", r.Scenario, strings.TrimSpace(r.About), r.Machine, others, 100*r.Others)
	if r.Capacity > 0 {
		fmt.Fprintf(&b, " Capacity %.0f requests/s.", r.Capacity)
	}
	b.WriteString("\n\n| traffic | phase | due/s | answered/s | in time/s | refused | failed | unsent | p50 | p90 | p99 | p99.9 | max ms | by the server p50 | p99 |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	none := Spread{}
	for _, t := range r.Traffic {
		for _, p := range t.Phases {
			fmt.Fprintf(&b, "| %s | %s | %.1f | %.1f | %s | %d | %d | %d | %s | %s | %s | %s | %s | %s | %s |\n", t.Name, p.Name, float64(p.Due)/p.Length, float64(p.OK)/p.Length,
				spreadOf(float64(p.Good)/p.Length, p.GoodSpread), p.Refused, p.Failed, p.Unsent, p.known("p50_ms", p.P50, p.P50Spread), p.known("p90_ms", p.P90, none), p.known("p99_ms", p.P99, p.P99Spread), p.known("p999_ms", p.P999, none), p.known("max_ms", p.Max, none),
				p.known("", p.ServedP50, none), p.known("", p.ServedP99, none))
		}
	}
	fmt.Fprintf(&b, "\nWhat failed, or was not sent for want of a connection, counts as later than every answer.\n\n![latency](%s-latency.svg)\n\n![rates](%s-rate.svg)\n\n| | asserted | measured |\n|---|---|---|\n", r.Scenario, r.Scenario)
	for _, v := range r.Verdicts {
		verdict := "**fails**"
		if v.Holds {
			verdict = "holds"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", verdict, v.Assertion, v.measured())
	}
	for _, t := range r.Traffic {
		if t.Error != "" {
			fmt.Fprintf(&b, "\nThe first failure of %s: `%s`\n", t.Name, strings.ReplaceAll(t.Error, "`", "'"))
		}
		b.WriteString(t.firsts())
		fmt.Fprintf(&b, "\nThe generator of %s was late by %s ms at the 99th percentile.\n", t.Name, number(t.LagP99))
	}
	return b.String()
}

// firsts says when the first events came, of traffic that has some.
func (t *Outcome) firsts() string {
	var phases []string
	for _, p := range t.Phases {
		if p.FirstP99 > 0 {
			phases = append(phases, fmt.Sprintf("%s ms in %s", p.known("first_event_p99_ms", p.FirstP99, Spread{}), p.Name))
		}
	}
	if len(phases) == 0 {
		return ""
	}
	return fmt.Sprintf("\nThe first event of %s came within %s at the 99th percentile.\n", t.Name, strings.Join(phases, ", "))
}

// known writes a time, or nothing where none was measured.
func (f *Figure) known(name string, ms float64, in Spread) string {
	switch {
	case ms == 0:
		return ""
	case slices.Contains(f.AtLeast, name):
		return "> " + number(ms)
	}
	return spreadOf(ms, in)
}
