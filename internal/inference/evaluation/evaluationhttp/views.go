package evaluationhttp

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

// NewEvaluation is what asks for an evaluation.
type NewEvaluation struct {
	Name      string             `json:"name,omitempty" maxLength:"255" doc:"A name of the client's own."`
	Candidate string             `json:"candidate" minLength:"1" maxLength:"63" doc:"The version that is asked: its number, or an alias."`
	Baseline  string             `json:"baseline,omitempty" maxLength:"63" default:"logged" doc:"What its answers are compared with: those that were logged, or those of a version, by its number or an alias."`
	Source    EvaluationSource   `json:"source"`
	SegmentBy []string           `json:"segment_by,omitempty" maxItems:"8" doc:"What rows are told apart by: version, arm or experiment of a logged prediction, a column of a file; an input's element (in/NAME or in/NAME/2), or the baseline's answer (out/NAME: the class, where it has several numbers)."`
	Compare   *EvaluationCompare `json:"compare,omitempty"`
	MaxRows   int64              `json:"max_rows,omitempty" minimum:"0" doc:"After so many rows the evaluation ends, with what it has; 100000 where left out."`
	MaxTime   string             `json:"max_time,omitempty" maxLength:"20" doc:"After which it fails, such as 10m or 24h; 1h where left out."`
}

// EvaluationSource is what is asked again: predictions of the log, or the rows of a file.
type EvaluationSource struct {
	UploadID   string              `json:"upload_id,omitempty" maxLength:"64" doc:"A file of rows, in place of the log: in the formats that batches read."`
	Format     string              `json:"format,omitempty" enum:"csv,jsonl,parquet,arrow,xlsx" doc:"Of the file; told by its content where left out."`
	RowID      string              `json:"row_id,omitempty" maxLength:"255" doc:"The file's column with the row's name; rows are told by their numbers without it."`
	Columns    map[string][]string `json:"columns,omitempty" doc:"Of the file: of which columns inputs are made, as for batches."`
	Hours      int                 `json:"hours,omitempty" minimum:"0" maximum:"744" doc:"Of the log: the last so many."`
	From       *api.Time           `json:"from,omitempty" doc:"Of the log, in place of hours."`
	To         *api.Time           `json:"to,omitempty" doc:"Of the log, up to then; now where left out."`
	Sample     *float64            `json:"sample,omitempty" minimum:"0" maximum:"1" doc:"Of the log: the share of the predictions that is asked."`
	Version    string              `json:"version,omitempty" maxLength:"20" doc:"Of the log: only what this version has answered."`
	Experiment string              `json:"experiment,omitempty" maxLength:"64" doc:"Of the log: only what was given to an arm of this experiment or release."`
	Arm        string              `json:"arm,omitempty" maxLength:"128" doc:"Of the log: only what was given to this arm."`
}

// EvaluationCompare says which answers agree, see docs/EXPERIMENTS.md.
type EvaluationCompare struct {
	Values   bool     `json:"values,omitempty" doc:"Every element has to agree, and not only the greatest of a row."`
	Absolute *float64 `json:"absolute,omitempty" minimum:"0" doc:"How far elements that agree may be apart; what another size of the batch explains where neither is given."`
	Relative *float64 `json:"relative,omitempty" minimum:"0" doc:"The same, times the baseline's value."`
}

// Evaluation is what is shown of one.
type Evaluation struct {
	ID          string             `json:"id"`
	Object      string             `json:"object"`
	Name        string             `json:"name,omitempty"`
	Status      string             `json:"status" enum:"queued,running,completed,failed,cancelled"`
	Model       string             `json:"model"`
	Candidate   EvaluationSide     `json:"candidate"`
	Baseline    EvaluationSide     `json:"baseline" doc:"Without a version: what was logged."`
	Source      EvaluationSource   `json:"source"`
	SegmentBy   []string           `json:"segment_by,omitempty"`
	MaxRows     int64              `json:"max_rows"`
	Progress    EvaluationProgress `json:"progress"`
	Result      *EvaluationResult  `json:"result,omitempty" doc:"What it has come to so far."`
	Diff        *EvaluationDiff    `json:"diff,omitempty" doc:"The rows that differ, once all are there."`
	Error       *EvaluationFailure `json:"error,omitempty"`
	CreatedAt   api.Time           `json:"created_at"`
	CreatedBy   string             `json:"created_by"`
	StartedAt   *api.Time          `json:"started_at,omitempty"`
	CompletedAt *api.Time          `json:"completed_at,omitempty"`
	ExpiresAt   *api.Time          `json:"expires_at,omitempty" doc:"When it is forgotten, with its differences."`
	URLs        EvaluationURLs     `json:"urls"`
}

// EvaluationSide is a version that answers.
type EvaluationSide struct {
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

// EvaluationProgress is how far it is.
type EvaluationProgress struct {
	Cases   int64 `json:"cases" doc:"Predictions, or rows of a file, that were gone through."`
	Chunks  int   `json:"chunks"`
	Attempt int   `json:"attempt"`
}

// FlipRate is a share of rows.
type FlipRate struct {
	Rows  int64    `json:"rows" doc:"That were compared."`
	Flips int64    `json:"flips" doc:"Of those: rows whose answer is another, or that the candidate could not answer."`
	Rate  *float64 `json:"flip_rate" doc:"Null where no row was compared."`
	Low   float64  `json:"low" doc:"The rate is within low and high with 95 % confidence (Wilson)."`
	High  float64  `json:"high"`
}

// EvaluationResult is what an evaluation has come to.
type EvaluationResult struct {
	FlipRate
	Errors       int64                `json:"errors" doc:"Rows that the candidate could not answer."`
	ErrorCodes   map[string]int64     `json:"error_codes,omitempty"`
	Skipped      map[string]int64     `json:"skipped,omitempty" doc:"Rows that were not compared, by why: no_content, inputs_missing, no_outputs, altered, row_invalid, baseline_failed, too_large, no_rows, content_invalid."`
	Altered      int64                `json:"altered,omitempty" doc:"Rows of which both versions were asked what the log's policy has left of them."`
	Segments     []EvaluationSegments `json:"segments,omitempty"`
	Outputs      []OutputDistance     `json:"outputs,omitempty"`
	Worst        []WorstRow           `json:"worst,omitempty" doc:"The rows that differ most."`
	LatencyRatio *float64             `json:"latency_ratio,omitempty" doc:"How many times the baseline's median run time the candidate's is: spare time against that of live requests where the baseline is what was logged."`
	Latency      *EvaluationTimes     `json:"latency,omitempty"`
	Cut          bool                 `json:"cut,omitempty" doc:"There were more rows than max_rows."`
}

// EvaluationSegments are rates of rows told apart.
type EvaluationSegments struct {
	By     string              `json:"by"`
	Values []EvaluationSegment `json:"values" doc:"The surest to flip first."`
}

// EvaluationSegment is the rate of the rows of a value.
type EvaluationSegment struct {
	Value string `json:"value"`
	FlipRate
}

// OutputDistance is how far an output's elements are apart.
type OutputDistance struct {
	Name         string   `json:"name"`
	Elements     int64    `json:"elements"`
	Differ       int64    `json:"differ"`
	Mean         *float64 `json:"mean_distance,omitempty"`
	Max          float64  `json:"max_distance"`
	MaxULP       uint64   `json:"max_ulp"`
	TopOverlap   *float64 `json:"top_overlap,omitempty" doc:"The share of the baseline's five greatest elements that are among the candidate's."`
	Incomparable int64    `json:"incomparable,omitempty" doc:"Rows of which one side lacks it, or has another datatype or shape."`
}

// WorstRow is a row that differs much.
type WorstRow struct {
	Name     string  `json:"name" doc:"Of the prediction or the file's row, and the row in it."`
	Output   string  `json:"output"`
	Distance float64 `json:"distance"`
}

// EvaluationTimes are times of runs in milliseconds.
type EvaluationTimes struct {
	Baseline  RunTimes `json:"baseline"`
	Candidate RunTimes `json:"candidate"`
}

// RunTimes are quantiles in milliseconds.
type RunTimes struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// EvaluationDiff is the file of differences.
type EvaluationDiff struct {
	URL    string `json:"url"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// EvaluationFailure is why an evaluation failed.
type EvaluationFailure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// EvaluationURLs are what can be done with an evaluation.
type EvaluationURLs struct {
	Self   string `json:"self"`
	Diff   string `json:"diff"`
	Cancel string `json:"cancel"`
}

// Start is what the service is asked for, now.
func (n *NewEvaluation) Start(model string, now time.Time) (evaluation.Start, error) {
	c := evaluation.Start{Name: n.Name, Model: model, Candidate: n.Candidate, Request: evaluation.Request{By: n.SegmentBy, MaxRows: n.MaxRows}}
	if n.Baseline != logged {
		c.Baseline = n.Baseline
	}
	if n.Compare != nil {
		c.Compare = n.Compare.config()
	}
	if n.MaxTime != "" {
		var err error
		if c.MaxTime, err = time.ParseDuration(n.MaxTime); err != nil || c.MaxTime <= 0 {
			return c, fault.New(fault.Unprocessable, "max_time is %q, expected a time such as 10m", n.MaxTime).WithCode("evaluation_invalid")
		}
	}
	s := &n.Source
	if s.UploadID != "" {
		if s.Hours > 0 || s.From != nil || s.To != nil || s.Sample != nil || s.Version+s.Experiment+s.Arm != "" {
			return c, fault.New(fault.Unprocessable, "source names both an upload and predictions of the log").WithCode("evaluation_invalid")
		}
		c.Upload = &evaluation.Upload{ID: s.UploadID, Format: s.Format, RowID: s.RowID, Columns: s.Columns}
		return c, nil
	}
	l := &evaluation.Logged{Sample: 1, To: now.Truncate(time.Millisecond), Version: s.Version, Experiment: s.Experiment, Arm: s.Arm}
	if s.Sample != nil {
		l.Sample = *s.Sample
	}
	if s.To != nil {
		l.To = s.To.Time
	}
	switch {
	case (s.From != nil) == (s.Hours > 0):
		return c, fault.New(fault.Unprocessable, "source needs either hours or from").WithCode("evaluation_invalid")
	case s.From != nil:
		l.From = s.From.Time
	default:
		l.From = l.To.Add(-time.Duration(s.Hours) * time.Hour)
	}
	c.Logged = l
	return c, nil
}

// logged is the baseline that is no version.
const logged = "logged"

func (n *EvaluationCompare) config() shadow.Config {
	c := shadow.DefaultConfig()
	c.Values = n.Values
	if n.Absolute != nil || n.Relative != nil {
		c.Tolerance = new(shadow.Tolerance)
		if n.Absolute != nil {
			c.Tolerance.Absolute = *n.Absolute
		}
		if n.Relative != nil {
			c.Tolerance.Relative = *n.Relative
		}
	}
	return c
}

// sourceView shows what is asked again.
func sourceView(r *evaluation.Request) EvaluationSource {
	l := r.Logged
	if l == nil {
		return EvaluationSource{UploadID: r.File.Upload}
	}
	return EvaluationSource{From: some(l.From), To: some(l.To), Sample: &l.Sample, Version: l.Version, Experiment: l.Experiment, Arm: l.Arm}
}

// some is nil for the zero time.
func some(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

// view shows an evaluation; all says that the caller may see what was asked and answered.
func (e *edge) view(x *evaluation.Evaluation, all bool) Evaluation {
	self := e.prefix + "/evaluations/" + string(x.ID)
	r := &x.Request
	v := Evaluation{ID: string(x.ID), Object: "evaluation", Name: x.Name, Status: string(x.Status), Model: r.Model,
		Candidate: EvaluationSide{r.Candidate.Number, r.Candidate.Digest}, Source: sourceView(r), SegmentBy: r.By, MaxRows: r.MaxRows,
		Progress:  EvaluationProgress{x.Done.Result.Cases, x.Done.Chunks, x.Attempt},
		CreatedAt: api.Time{Time: x.CreatedAt}, CreatedBy: x.CreatedBy, StartedAt: some(x.StartedAt), CompletedAt: some(x.CompletedAt),
		URLs: EvaluationURLs{self, self + "/diff", self + "/cancel"}}
	if b := r.Baseline; b != nil {
		v.Baseline = EvaluationSide{b.Number, b.Digest}
	}
	if x.Done.Chunks > 0 {
		v.Result = resultView(&x.Done.Result, all)
	}
	if f := x.Failure; f != nil {
		v.Error = &EvaluationFailure{f.Code, f.Message}
	}
	if x.Final() {
		v.ExpiresAt = some(x.Keep)
	}
	if d := &x.Done.Diff; x.Usable() == nil {
		v.Diff = &EvaluationDiff{v.URLs.Diff, d.Rows, d.Bytes, d.SHA256}
	}
	return v
}

func rate(c evaluation.Count) FlipRate {
	within := c.Within()
	return FlipRate{c.Rows, c.Flips, c.FlipRate(), within.Low, within.High}
}

func resultView(r *evaluation.Result, all bool) *EvaluationResult {
	v := &EvaluationResult{FlipRate: rate(r.Count), Errors: r.Errors, ErrorCodes: r.Codes, Altered: r.Altered, Cut: r.Cut}
	for why, n := range r.Skipped {
		if v.Skipped == nil {
			v.Skipped = map[string]int64{}
		}
		v.Skipped[string(why)] = n
	}
	for i := range r.Segments {
		s := &r.Segments[i]
		if all || !evaluation.OfTensors(s.By) {
			v.Segments = append(v.Segments, segments(s))
		}
	}
	if ratio := r.LatencyRatio(); ratio > 0 {
		v.LatencyRatio, v.Latency = &ratio, &EvaluationTimes{times(r.Baseline), times(r.Candidate)}
	}
	if r.Report == nil {
		return v
	}
	for _, name := range slices.Sorted(maps.Keys(r.Report.Outputs)) {
		v.Outputs = append(v.Outputs, distance(name, r.Report.Outputs[name]))
	}
	for _, w := range r.Report.Worst {
		v.Worst = append(v.Worst, WorstRow{w.Champion, w.Output, w.Distance})
	}
	return v
}

func segments(s *evaluation.Segments) EvaluationSegments {
	v := EvaluationSegments{By: s.By, Values: []EvaluationSegment{}}
	for value, c := range s.Values {
		v.Values = append(v.Values, EvaluationSegment{value, rate(*c)})
	}
	slices.SortFunc(v.Values, func(a, b EvaluationSegment) int {
		return cmp.Or(cmp.Compare(b.Low, a.Low), strings.Compare(a.Value, b.Value))
	})
	if s.Others.Rows > 0 {
		v.Values = append(v.Values, EvaluationSegment{evaluation.Others, rate(s.Others)})
	}
	return v
}

func distance(name string, o *shadow.Output) OutputDistance {
	v := OutputDistance{Name: name, Elements: o.Elements, Differ: o.Differ, Max: o.Max, MaxULP: o.MaxULP, Incomparable: o.Incomparable}
	if o.Elements > o.Unlike {
		v.Mean = new(o.Mean())
	}
	if o.TopSum > 0 {
		v.TopOverlap = new(o.Overlap())
	}
	return v
}

func times(h *histogram.Histogram) RunTimes {
	at := func(q float64) float64 { return float64(h.Quantile(q).Microseconds()) / 1000 }
	return RunTimes{at(0.5), at(0.9), at(0.99)}
}
