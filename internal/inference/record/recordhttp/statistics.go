package recordhttp

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

type statisticsIn struct {
	Model      string   `path:"model" maxLength:"255"`
	From       string   `query:"from" maxLength:"40" doc:"The beginning (RFC 3339); a day before to without it. Minutes count as a whole, those that begin between from and to."`
	To         string   `query:"to" maxLength:"40" doc:"The end, which is not part of it; now without it."`
	Version    string   `query:"version" maxLength:"64"`
	Experiment string   `query:"experiment" maxLength:"128"`
	Arm        string   `query:"arm" maxLength:"128"`
	GroupBy    []string `query:"group_by" enum:"minute,hour,day,version,arm,assignment,mode" maxItems:"5" doc:"What is told apart, separated by commas; nothing without it. assignment tells requests that a rule gave their arm from those that chance did, mode online, bulk and shadow ones; only with mode do shadow runs count, which nobody was served by."`
}

type statisticsOut struct{ Body Statistics }

// Statistics is what a model did.
type Statistics struct {
	Object string   `json:"object"`
	Model  string   `json:"model"`
	From   api.Time `json:"from"`
	To     api.Time `json:"to"`
	Data   []Group  `json:"data" doc:"By start, version and arm, as far as they are told apart."`
}

// Group is a part of it.
type Group struct {
	Start      *api.Time `json:"start,omitempty" doc:"Of the minute, hour or day, UTC."`
	Version    string    `json:"version,omitempty"`
	Experiment string    `json:"experiment,omitempty"`
	Arm        string    `json:"arm,omitempty"`
	Assignment string    `json:"assignment,omitempty" enum:"chance,rule"`
	Mode       string    `json:"mode,omitempty" enum:"online,bulk,shadow"`

	Requests  int64      `json:"requests" doc:"The sum of the next five."`
	Succeeded int64      `json:"succeeded"`
	Failed    int64      `json:"failed" doc:"Their run, or what belongs to it, broke."`
	Refused   int64      `json:"refused" doc:"Too many waited, or it was too late."`
	Invalid   int64      `json:"invalid" doc:"The request was wrong."`
	Cancelled int64      `json:"cancelled" doc:"Their client went."`
	ErrorRate *float64   `json:"error_rate" doc:"Failed and refused ones, among these and those that succeeded; null where there are none."`
	Rows      int64      `json:"rows" doc:"That were answered."`
	Latency   *Quantiles `json:"latency_ms,omitempty" doc:"Of those that succeeded, in milliseconds, exact to 0.8 percent."`
	Labels    []Scores   `json:"labels,omitempty" doc:"What labels with a score come to, by name."`
}

// Quantiles are those of latencies.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Scores sums up labels.
type Scores struct {
	Name     string   `json:"name"`
	Count    int64    `json:"count"`
	Mean     float64  `json:"mean"`
	Variance *float64 `json:"variance" doc:"Of what the scores are drawn from, as far as they tell; null for fewer than two."`
}

// registerStatistics adds the statistics of models.
func (h handler) registerStatistics(v *api.API) {
	op := api.Operation{ID: "get-model-statistics", Method: http.MethodGet, Path: "/models/{model}/statistics", Summary: "What a model did for the tenant", Tags: []string{"prediction log"}, Permission: ReadStatistics,
		Description: "From what is kept of each minute. Predictions appear within about a second; a server that is killed loses those since, and one that is too busy to log counts what it left out in the metric sluice_record_dropped_total. A model that has made none has no data."}
	api.Register(v, op, h.statistics)
}

// Bounds of an answer.
const (
	maxGroups = 2000                 // each may take 18 KB while it is made
	maxSpan   = 400 * 24 * time.Hour // that one group sums up
)

func (h handler) statistics(ctx context.Context, in *statisticsIn) (*statisticsOut, error) {
	tenant, err := h.tenant(ctx)
	if err != nil {
		return nil, err
	}
	f := record.Filter{Tenant: tenant, Model: in.Model, Version: in.Version, Experiment: in.Experiment, Arm: in.Arm}
	if f.From, f.To, err = span(in.From, in.To, 24*time.Hour, time.Now()); err != nil {
		return nil, err
	}
	step := in.step()
	if step == 0 && f.To.Sub(f.From) > maxSpan {
		return nil, fault.New(fault.Unprocessable, "the statistics of more than %d days would be read at once: ask for a shorter time, or by day", maxSpan/(24*time.Hour)).WithCode("statistics_too_large")
	}
	groups, err := h.store.Statistics(ctx, f, record.Grouping{Step: step, By: in.series, Limit: maxGroups})
	if err != nil {
		return nil, err
	}
	out := &statisticsOut{Statistics{Object: "statistics", Model: in.Model, From: api.Time{Time: f.From}, To: api.Time{Time: f.To}, Data: []Group{}}}
	for i := range groups {
		if !groups[i].Shadow || in.by("mode") {
			out.Body.Data = append(out.Body.Data, in.show(&groups[i]))
		}
	}
	return out, nil
}

func (in *statisticsIn) by(name string) bool { return slices.Contains(in.GroupBy, name) }

// step is the shortest time that is told apart; 0 for none.
func (in *statisticsIn) step() time.Duration {
	switch {
	case in.by("minute"):
		return time.Minute
	case in.by("hour"):
		return time.Hour
	case in.by("day"):
		return 24 * time.Hour
	}
	return 0
}

// series returns what a series counts in: itself without what is not told apart.
func (in *statisticsIn) series(of record.Series) record.Series {
	s := record.Series{Model: of.Model}
	if in.by("version") {
		s.Version = of.Version
	}
	if in.by("arm") {
		s.Experiment, s.Arm = of.Experiment, of.Arm
	}
	if in.by("assignment") {
		s.ByRule = of.ByRule
	}
	if s.Shadow = of.Shadow; in.by("mode") {
		s.Bulk = of.Bulk && !of.Shadow
	}
	return s
}

func (in *statisticsIn) show(r *record.Rollup) Group {
	n := r.Outcomes
	g := Group{Version: r.Version, Experiment: r.Experiment, Arm: r.Arm, Succeeded: n[record.Succeeded], Failed: n[record.Failed], Refused: n[record.Refused], Invalid: n[record.Invalid], Cancelled: n[record.Cancelled],
		Rows: r.Rows, Latency: quantiles(r.Latency)}
	for _, count := range n {
		g.Requests += count
	}
	if numbers := r.Numbers(""); numbers.Requests.N > 0 {
		g.ErrorRate = new(numbers.Requests.Rate())
	}
	if in.step() > 0 {
		g.Start = &api.Time{Time: r.Start}
	}
	if in.by("assignment") {
		if g.Assignment = "chance"; r.ByRule {
			g.Assignment = "rule"
		}
	}
	if in.by("mode") {
		g.Mode = mode(r.Series)
	}
	for name, m := range r.Scores {
		if m.N == 0 {
			continue
		}
		s := Scores{Name: name, Count: m.N, Mean: m.Mean}
		if m.N > 1 {
			s.Variance = new(m.Variance())
		}
		g.Labels = append(g.Labels, s)
	}
	slices.SortFunc(g.Labels, func(a, b Scores) int { return cmp.Compare(a.Name, b.Name) })
	return g
}

func mode(s record.Series) string {
	switch {
	case s.Shadow:
		return "shadow"
	case s.Bulk:
		return "bulk"
	}
	return "online"
}

func quantiles(h *histogram.Histogram) *Quantiles {
	if h.Count() == 0 {
		return nil
	}
	q := func(q float64) float64 { return millis(h.Quantile(q)) }
	return &Quantiles{q(0.5), q(0.9), q(0.95), q(0.99)}
}
