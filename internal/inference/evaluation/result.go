package evaluation

import (
	"cmp"
	"slices"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/shadow"
	"sluice/internal/platform/fault"
)

// Count is how many rows were compared, and what came of them.
type Count struct {
	Rows  int64 `json:"rows"`
	Flips int64 `json:"flips"` // rows that differ, or that the candidate could not answer
	// Altered are the rows among them of which both versions were asked what the log's policy
	// has left, as nobody has, and AlteredFlips the flips among those.
	Altered      int64 `json:"altered,omitempty"`
	AlteredFlips int64 `json:"altered_flips,omitempty"`
}

// Share returns the flips among the rows.
func (c Count) Share() sequential.Count { return sequential.Count{N: c.Rows, Hits: c.Flips} }

// Asked returns the flips among the rows that somebody has asked as they are.
func (c Count) Asked() sequential.Count {
	return sequential.Count{N: c.Rows - c.Altered, Hits: c.Flips - c.AlteredFlips}
}

// Within is what the flip rate is within, see evidence.Wilson.
func (c Count) Within() sequential.Interval { return evidence.Wilson(c.Share()) }

// FlipRate is the share of rows that differ; nil where none was compared.
func (c Count) FlipRate() *float64 {
	if c.Rows == 0 {
		return nil
	}
	return new(c.Share().Rate())
}

// Segments are rows told apart by a name. Those of values beyond MaxValues are counted
// together, as Others.
type Segments struct {
	By     string            `json:"by"`
	Values map[string]*Count `json:"values"`
	Others Count             `json:"others,omitzero"`
}

// MaxValues is how many values of a name are told apart, maxValue how many bytes of them are
// shown, and maxCodes how many codes of failures are.
const (
	MaxValues = 100
	maxValue  = 64
	maxCodes  = 20
)

// Result is what an evaluation has come to.
type Result struct {
	Cases int64 `json:"cases"` // that were gone through
	Count
	// Errors are rows that the candidate could not answer, and Codes of which failures.
	Errors        int64            `json:"errors"`
	AlteredErrors int64            `json:"altered_errors,omitempty"` // of altered rows
	Codes         map[string]int64 `json:"codes,omitempty"`
	// Skipped are rows that were not compared, by why.
	Skipped  map[Skip]int64 `json:"skipped,omitempty"`
	Segments []Segments     `json:"segments,omitempty"`
	// Report has how far answers are apart, and the worst of them.
	Report *shadow.Report `json:"report,omitempty"`
	// Baseline and Candidate are the times of the runs of the requests that were compared.
	Baseline  *histogram.Histogram `json:"baseline_latency,omitempty"`
	Candidate *histogram.Histogram `json:"candidate_latency,omitempty"`
	// Cut says that there were more cases than max_rows allows.
	Cut bool `json:"cut,omitempty"`
}

// begin makes an empty result ready to be added to.
func (r *Result) begin(req *Request) error {
	if r.Report != nil {
		return nil
	}
	var err error
	if r.Report, err = shadow.NewReport(req.Compare); err != nil {
		return err
	}
	r.Codes, r.Skipped = map[string]int64{}, map[Skip]int64{}
	r.Baseline, r.Candidate = new(histogram.Histogram), new(histogram.Histogram)
	for _, by := range req.By {
		r.Segments = append(r.Segments, Segments{By: by, Values: map[string]*Count{}})
	}
	return nil
}

func (r *Result) skip(why Skip, rows int64) {
	if r.Skipped == nil {
		r.Skipped = map[Skip]int64{}
	}
	r.Skipped[why] += max(rows, 1)
}

// count counts a row that was compared, with its segments' values.
func (r *Result) count(flip, altered bool, values []string) {
	one := Count{Rows: 1}
	if flip {
		one.Flips = 1
	}
	if altered {
		one.Altered, one.AlteredFlips = 1, one.Flips
	}
	add := func(c *Count) {
		c.Rows, c.Flips = c.Rows+one.Rows, c.Flips+one.Flips
		c.Altered, c.AlteredFlips = c.Altered+one.Altered, c.AlteredFlips+one.AlteredFlips
	}
	add(&r.Count)
	for i, value := range values {
		add(r.Segments[i].of(value))
	}
}

// of returns the count of a value.
func (s *Segments) of(value string) *Count {
	c := s.Values[value]
	if c == nil {
		if len(s.Values) >= MaxValues {
			return &s.Others
		}
		if s.Values == nil {
			s.Values = map[string]*Count{}
		}
		c = new(Count)
		s.Values[value] = c
	}
	return c
}

// failed counts a row that the candidate could not answer.
func (r *Result) failed(err error, altered bool) {
	if r.Errors++; altered {
		r.AlteredErrors++
	}
	code := fault.CodeOf(err)
	if r.Codes == nil {
		r.Codes = map[string]int64{}
	}
	if _, known := r.Codes[code]; !known && len(r.Codes) >= maxCodes {
		code = "others"
	}
	r.Codes[code]++
}

// ran counts the times of a pair of runs; 0 is not known.
func (r *Result) ran(baseline, candidate time.Duration) {
	if baseline > 0 && candidate > 0 {
		r.Baseline.Add(baseline)
		r.Candidate.Add(candidate)
	}
}

// LatencyRatio is how many times the baseline's median time the candidate's is; 0 where that
// is not known.
func (r *Result) LatencyRatio() float64 {
	if r.Baseline.Count() == 0 {
		return 0
	}
	return float64(r.Candidate.Quantile(0.5)) / float64(max(r.Baseline.Quantile(0.5), 1))
}

// Worst is the segment of which it is most certain that it flips.
type Worst struct {
	By    string `json:"by"`
	Value string `json:"value"`
	Count
}

// WorstSegment returns the segment whose rate's lower bound, by evidence.WilsonAmong, is
// greatest, and from how many it was chosen: those of which somebody has asked
// evidence.MinSegmentRows or more. Nil where there are none.
func (r *Result) WorstSegment() (worst *Worst, among int) {
	var all []Worst
	look := func(by, value string, c Count) {
		if c.Asked().N >= evidence.MinSegmentRows {
			all = append(all, Worst{by, value, c})
		}
	}
	for _, s := range r.Segments {
		for value, c := range s.Values {
			look(s.By, value, *c)
		}
		look(s.By, Others, s.Others)
	}
	if len(all) == 0 {
		return nil, 0
	}
	low := func(w *Worst) float64 { return evidence.WilsonAmong(w.Asked(), len(all)).Low }
	return new(slices.MinFunc(all, func(a, b Worst) int {
		return cmp.Or(cmp.Compare(low(&b), low(&a)), cmp.Compare(a.By, b.By), cmp.Compare(a.Value, b.Value))
	})), len(all)
}

// Others stands for the values that are not told apart.
const Others = "(others)"
