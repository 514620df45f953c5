package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

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
			f.Buckets = buckets(&series.phases[n].Latency)
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
		was := "measured "
		if v.Unmeasured != "" {
			was = "not measured: "
		}
		fmt.Fprintf(&b, "%s %s: %s: %s%s\n", verdict, r.Scenario, v.Assertion, was, v.measured())
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
