package evidence

import (
	"fmt"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// Replay bounds how many answers differ when the candidate is asked again what was asked
// before it had one request, see package evaluation. The rows are all there when they are
// judged, once: their rate is what it is, and no estimate.
type Replay struct {
	MaxFlipRate float64 `json:"max_flip_rate"` // of all rows, 0 or more
	// MaxSegmentFlipRate is that of each segment of MinSegmentRows or more; nil does not ask. A
	// segment fails where even the lower bound of its rate, by WilsonAmong, is above. Smaller
	// ones decide nothing, but there has to be one that is not.
	MaxSegmentFlipRate *float64 `json:"max_segment_flip_rate,omitempty"`
	// MinRows is how many rows have to be compared: with fewer it fails, since no more will come.
	MinRows int64 `json:"min_rows"`
}

// MinSegmentRows is how many rows a segment has to have that is judged by itself: the lower
// bound of one row of one that flips is above many a limit.
const MinSegmentRows = 30

// Replayed is the outcome of an evaluation. All tenants that see the release can read it, so
// it has numbers and nothing of what was asked.
type Replayed struct {
	Evaluation string `json:"evaluation"`
	Ended      bool   `json:"ended"`
	// Failed says why it came to nothing; empty where it did not.
	Failed string           `json:"failed,omitempty"`
	Rows   sequential.Count `json:"rows"` // hits are those that flip
	Errors int64            `json:"errors,omitempty"`
	// Altered are rows that were asked with inputs that a policy had altered, which nobody ever
	// sent: no other number counts them.
	Altered int64 `json:"altered,omitempty"`
	// Segment says by what the segment is told apart that flips most surely, and Of has its
	// rows; its value is in the evaluation alone. It was chosen from Segments of at least
	// MinSegmentRows; 0 where there are none.
	Segment  string           `json:"segment,omitempty"`
	Of       sequential.Count `json:"segment_rows,omitzero"`
	Segments int              `json:"segments,omitempty"`
}

// validate refuses numbers that cannot be; nil has none.
func (r *Replayed) validate() error {
	if r == nil {
		return nil
	}
	for _, c := range []sequential.Count{r.Rows, r.Of} {
		if c.Hits < 0 || c.Hits > c.N {
			return fault.New(fault.Invalid, "%d of %d rows flip, which cannot be", c.Hits, c.N).WithCode("evidence_numbers")
		}
	}
	return nil
}

// judge says nothing before the evaluation has ended. What is missing then fails.
func (g *Replay) judge(r *Replayed) Finding {
	const name = "replay"
	fails := func(format string, args ...any) Finding {
		return Finding{Guardrail: name, Verdict: Fail, Interval: sequential.Everything, Limit: g.MaxFlipRate, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case r == nil:
		return find(name, sequential.Everything, g.MaxFlipRate, "nothing is known of an evaluation")
	case !r.Ended:
		return find(name, sequential.Everything, g.MaxFlipRate, "the evaluation %s has not ended", r.Evaluation)
	case r.Failed != "":
		return fails("the evaluation %s came to nothing: %s", r.Evaluation, r.Failed)
	case r.Rows.N < g.MinRows || r.Rows.N == 0:
		return fails("of the %d rows that are needed the evaluation %s has compared %d, and %d as they were altered, which count for nothing", g.MinRows, r.Evaluation, r.Rows.N, r.Altered)
	}
	rate := r.Rows.Rate()
	f := find(name, sequential.Interval{Low: rate, High: rate}, g.MaxFlipRate, "%d of %d rows have another answer, %d of them none; evaluation %s", r.Rows.Hits, r.Rows.N, r.Errors, r.Evaluation)
	if g.MaxSegmentFlipRate == nil || f.Verdict == Fail {
		return f
	}
	if r.Segments == 0 || r.Of.N < MinSegmentRows {
		return fails("no segment of the evaluation %s has the %d rows that it takes to judge one", r.Evaluation, MinSegmentRows)
	}
	if within := WilsonAmong(r.Of, r.Segments); within.Low > *g.MaxSegmentFlipRate {
		f.Verdict, f.Interval, f.Limit = Fail, within, *g.MaxSegmentFlipRate
		f.Message = fmt.Sprintf("in a segment by %s %d of %d rows have another answer; evaluation %s", r.Segment, r.Of.Hits, r.Of.N, r.Evaluation)
	}
	return f
}
