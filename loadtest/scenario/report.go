package scenario

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/loadtest/load"
	"sluice/loadtest/machine"
	"sluice/loadtest/plot"
)

// Report is what a run saw.
type Report struct {
	Scenario string    `json:"scenario"`
	About    string    `json:"about"`
	Machine  string    `json:"machine"`
	Others   float64   `json:"others"`            // share of the cores that others took
	Foreign  bool      `json:"foreign,omitempty"` // the server was not ours, and is one of the others
	Began    time.Time `json:"began"`
	Capacity float64   `json:"capacity_per_second,omitempty"`
	Seed     uint64    `json:"seed"`
	CPU      float64   `json:"server_cpu_seconds,omitempty"`
	Traffic  []Outcome `json:"traffic"`
	Memory   []float64 `json:"memory_mb,omitempty"` // four times a second
	Verdicts []Verdict `json:"verdicts"`

	marks []plot.Mark
}

// Outcome is what became of traffic.
type Outcome struct {
	Name    string   `json:"name"`
	Model   string   `json:"model"`
	Kind    string   `json:"protocol"`
	LagP99  float64  `json:"generator_lag_p99_ms"`
	Error   string   `json:"first_failure,omitempty"`
	Phases  []Figure `json:"phases"`
	Seconds []Figure `json:"seconds"`
}

// Figure is what became of the requests that were due in some time. Times are in
// milliseconds.
type Figure struct {
	Name      string  `json:"name,omitempty"`
	Length    float64 `json:"seconds"`
	Due       int     `json:"due"`
	OK        int     `json:"ok"`
	Good      int     `json:"good"`
	Refused   int     `json:"refused"`
	Failed    int     `json:"failed"`
	Unsent    int     `json:"unsent"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
	FirstP99  float64 `json:"first_event_p99_ms,omitempty"`
	RefusalMS float64 `json:"refusal_p99_ms,omitempty"`
	QueuedP99 float64 `json:"queued_p99_ms,omitempty"` // as the server says, as the next two
	ServedP50 float64 `json:"served_p50_ms,omitempty"`
	ServedP99 float64 `json:"served_p99_ms,omitempty"`

	// Of phases that are long enough.
	GoodSpread Spread `json:"good_per_second_spread,omitzero"`
	P50Spread  Spread `json:"p50_ms_spread,omitzero"`
	P99Spread  Spread `json:"p99_ms_spread,omitzero"`
}

func figure(name string, length time.Duration, c *Cell) Figure {
	q := func(h *load.Histogram, at float64) float64 { return math.Round(1000*millis(h.Quantile(at))) / 1000 }
	return Figure{Name: name, Length: length.Seconds(), Due: c.Due, OK: c.OK, Good: c.Good, Refused: c.Refused, Failed: c.Failed, Unsent: c.Unsent,
		P50: q(&c.Latency, .5), P90: q(&c.Latency, .9), P99: q(&c.Latency, .99), P999: q(&c.Latency, .999), Max: q(&c.Latency, 1),
		FirstP99: q(&c.First, .99), RefusalMS: q(&c.Refusal, .99),
		QueuedP99: q(&c.Queued, .99), ServedP50: q(&c.Served, .5), ServedP99: q(&c.Served, .99)}
}

func (r *run) report(others float64) *Report {
	out := &Report{Scenario: r.s.Name, About: r.s.About, Machine: machine.Describe(), Others: others, Foreign: r.options.HTTP != "", Began: r.began.UTC(), Capacity: r.capacity, Seed: r.options.Seed,
		CPU: r.cpu.Seconds(), Memory: r.memory.mb}
	for i, p := range r.s.Phases {
		out.marks = append(out.marks, plot.Mark{At: r.s.begins(i).Seconds(), Name: p.Name})
	}
	for i := range r.s.Traffic {
		t := &r.s.Traffic[i]
		series := r.series[t.Name]
		o := Outcome{Name: t.Name, Model: t.Model, Kind: t.Protocol, LagP99: millis(r.lag[t.Name].Quantile(.99))}
		if series.err != nil {
			o.Error = series.err.Error()
		}
		for n, p := range r.s.Phases {
			f := figure(p.Name, p.For, &series.phases[n])
			f.GoodSpread, f.P50Spread, f.P99Spread = series.spreads(n)
			o.Phases = append(o.Phases, f)
		}
		for n := range series.second[:int(r.s.length()/time.Second)] {
			o.Seconds = append(o.Seconds, figure("", time.Second, &series.second[n]))
		}
		out.Traffic = append(out.Traffic, o)
	}
	for _, a := range r.s.Assert {
		if a.ofMemory() && out.Foreign {
			r.log("%s is left out: the memory of a server that is not ours is not measured", a)
			continue
		}
		out.Verdicts = append(out.Verdicts, r.judge(a))
	}
	return out
}

// Holds reports whether everything that was asserted holds.
func (r *Report) Holds() bool {
	for _, v := range r.Verdicts {
		if !v.Holds {
			return false
		}
	}
	return true
}

// Lines are the verdicts, for people and scripts alike.
func (r *Report) Lines() string {
	var b strings.Builder
	for _, v := range r.Verdicts {
		verdict := "FAILS"
		if v.Holds {
			verdict = "holds"
		}
		fmt.Fprintf(&b, "%s %s: %s: measured %s %s\n", verdict, r.Scenario, v.Assertion, number(v.Measured), v.Unit)
	}
	return b.String()
}

// Write writes the report into a folder: NAME.json, NAME.md and its pictures.
func (r *Report) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	files := map[string][]byte{r.Scenario + ".json": append(text, '\n'), r.Scenario + ".md": []byte(r.Markdown()),
		r.Scenario + "-latency.svg": r.latency().SVG(), r.Scenario + "-rate.svg": r.rates().SVG()}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

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
				spreadOf(float64(p.Good)/p.Length, p.GoodSpread), p.Refused, p.Failed, p.Unsent, known(p.P50, p.P50Spread), known(p.P90, none), known(p.P99, p.P99Spread), known(p.P999, none), known(p.Max, none), known(p.ServedP50, none), known(p.ServedP99, none))
		}
	}
	fmt.Fprintf(&b, "\n![latency](%s-latency.svg)\n\n![rates](%s-rate.svg)\n\n| | asserted | measured |\n|---|---|---|\n", r.Scenario, r.Scenario)
	for _, v := range r.Verdicts {
		verdict := "**fails**"
		if v.Holds {
			verdict = "holds"
		}
		fmt.Fprintf(&b, "| %s | %s | %s %s |\n", verdict, v.Assertion, number(v.Measured), v.Unit)
	}
	for _, t := range r.Traffic {
		if t.Error != "" {
			fmt.Fprintf(&b, "\nThe first failure of %s: `%s`\n", t.Name, strings.ReplaceAll(t.Error, "`", "'"))
		}
		fmt.Fprintf(&b, "\nThe generator of %s was late by %s ms at the 99th percentile.\n", t.Name, number(t.LagP99))
	}
	return b.String()
}

// known is a time that was measured; there is none where nobody answered, or where the server does not say.
func known(ms float64, in Spread) string {
	if ms == 0 {
		return ""
	}
	return spreadOf(ms, in)
}

// line draws something of every second.
func (t *Outcome) line(name string, of func(Figure) float64) plot.Line {
	l := plot.Line{Name: name}
	for i, s := range t.Seconds {
		l.X, l.Y = append(l.X, float64(i)+.5), append(l.Y, of(s))
	}
	return l
}

func (r *Report) latency() plot.Chart {
	c := plot.Chart{Title: r.Scenario + ": latency of what was due in each second", X: "s", Y: "ms", Log: true, Marks: r.marks}
	for i := range r.Traffic {
		t := &r.Traffic[i]
		c.Lines = append(c.Lines, t.line(t.Name+" p50", func(f Figure) float64 { return f.P50 }), t.line(t.Name+" p99", func(f Figure) float64 { return f.P99 }))
	}
	return c
}

func (r *Report) rates() plot.Chart {
	c := plot.Chart{Title: r.Scenario + ": requests a second", X: "s", Y: "1/s", Marks: r.marks}
	for i := range r.Traffic {
		t := &r.Traffic[i]
		c.Lines = append(c.Lines, t.line(t.Name+" due", func(f Figure) float64 { return float64(f.Due) }), t.line(t.Name+" in time", func(f Figure) float64 { return float64(f.Good) }),
			t.line(t.Name+" refused", func(f Figure) float64 { return float64(f.Refused) }))
	}
	return c
}
