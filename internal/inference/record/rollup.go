package record

import (
	"cmp"
	"slices"
	"time"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// Series is what statistics tell apart.
type Series struct {
	Model   string
	Version string
	Choice
	Bulk bool
}

// Series returns the series that the entry counts in.
func (e *Entry) Series() Series { return Series{e.Model, e.Version, e.Choice, e.Bulk} }

// Compare orders series.
func (s Series) Compare(o Series) int {
	return cmp.Or(cmp.Compare(s.Model, o.Model), cmp.Compare(s.Version, o.Version), cmp.Compare(s.Experiment, o.Experiment), cmp.Compare(s.Arm, o.Arm),
		falseFirst(s.ByRule, o.ByRule), falseFirst(s.Shadow, o.Shadow), falseFirst(s.Bulk, o.Bulk))
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Rollup sums up the entries of a series that were begun in some period. Rollups can be
// added up.
type Rollup struct {
	Start time.Time // of the period; zero where time is not told apart
	Series
	Outcomes [len(outcomes)]int64 // by number
	Rows     int64                // of those that succeeded
	// Latency is the total time of those that succeeded.
	Latency *histogram.Histogram
	// Scores are those of the labels, by their names.
	Scores map[string]sequential.Moments
}

// Add counts another's entries.
func (r *Rollup) Add(o *Rollup) {
	for i, n := range o.Outcomes {
		r.Outcomes[i] += n
	}
	r.Rows += o.Rows
	if o.Latency.Count() > 0 {
		if r.Latency == nil {
			r.Latency = new(histogram.Histogram)
		}
		r.Latency.Merge(o.Latency)
	}
	for name, m := range o.Scores {
		r.Score(name, m)
	}
}

// Score counts labels.
func (r *Rollup) Score(name string, m sequential.Moments) {
	if r.Scores == nil {
		r.Scores = map[string]sequential.Moments{}
	}
	sum := r.Scores[name]
	sum.Merge(m)
	r.Scores[name] = sum
}

// Count counts an entry.
func (r *Rollup) Count(e *Entry) {
	r.Outcomes[e.Outcome]++
	if e.Outcome != Succeeded {
		return
	}
	r.Rows += int64(e.Rows)
	if r.Latency == nil {
		r.Latency = new(histogram.Histogram)
	}
	r.Latency.Add(e.Latency.Total)
}

// Numbers returns what a judgement of an arm needs. Requests that were wrong or whose clients
// left say nothing of the arm and do not count; refused ones count as failed. Quality is that
// of the labels of the given name.
func (r *Rollup) Numbers(label string) evidence.Numbers {
	failed := int64(0)
	for o, n := range r.Outcomes {
		if Outcome(o).Failure() {
			failed += n
		}
	}
	return evidence.Numbers{
		Requests: sequential.Count{N: r.Outcomes[Succeeded] + failed, Hits: failed},
		Latency:  r.Latency, Quality: r.Scores[label],
	}
}

// Grouping says what is added up.
type Grouping struct {
	Step  time.Duration       // how long the period of a group is; 0 is all time
	By    func(Series) Series // the series that one counts in; nil is itself
	Limit int                 // how many groups there may be; 0 is any number
}

// Tally adds up rollups by series and step of time.
type Tally struct {
	Grouping
	sums map[slot]*Rollup
}

type slot struct {
	start int64
	Series
}

// NewTally returns an empty tally.
func NewTally(g Grouping) *Tally { return &Tally{g, map[slot]*Rollup{}} }

// Check fails, as fault.Unprocessable, once there are more groups than the limit. It is
// called while reading, since a group may take 18 KB.
func (t *Tally) Check() error {
	if t.Limit > 0 && len(t.sums) > t.Limit {
		return fault.New(fault.Unprocessable, "the statistics would have more than %d groups: ask for a shorter time, or tell less apart", t.Limit).WithCode("statistics_too_large")
	}
	return nil
}

// Of returns the rollup that a series counts in at a time.
func (t *Tally) Of(s Series, at time.Time) *Rollup {
	start := time.Time{}
	if t.Step > 0 {
		start = at.UTC().Truncate(t.Step)
	}
	if t.By != nil {
		s = t.By(s)
	}
	k := slot{start.UnixMilli(), s}
	if t.sums[k] == nil {
		t.sums[k] = &Rollup{Start: start, Series: s}
	}
	return t.sums[k]
}

// Rollups returns them ordered by start and series.
func (t *Tally) Rollups() []Rollup {
	out := make([]Rollup, 0, len(t.sums))
	for _, r := range t.sums {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Rollup) int { return cmp.Or(a.Start.Compare(b.Start), a.Compare(b.Series)) })
	return out
}
