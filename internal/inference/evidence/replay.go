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
	// MaxSegmentFlipRate is that of each segment; nil does not ask. A segment fails where even
	// the lower bound of its rate, by Wilson, is above: not one of two rows that happens to flip.
	MaxSegmentFlipRate *float64 `json:"max_segment_flip_rate,omitempty"`
	// MinRows is how many rows have to be compared: with fewer it fails, since no more will come.
	MinRows int64 `json:"min_rows"`
}

// Replayed is what an evaluation has come to.
type Replayed struct {
	Evaluation string `json:"evaluation"`
	Ended      bool   `json:"ended"`
	// Failed says why it came to nothing; empty where it did not.
	Failed string           `json:"failed,omitempty"`
	Rows   sequential.Count `json:"rows"` // hits are those that flip
	Errors int64            `json:"errors,omitempty"`
	// Segment is the one that flips most surely, and Of its rows; empty where rows were not
	// told apart.
	Segment string           `json:"segment,omitempty"`
	Of      sequential.Count `json:"segment_rows,omitzero"`
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
		return fails("of the %d rows that are needed the evaluation %s has compared %d", g.MinRows, r.Evaluation, r.Rows.N)
	}
	rate := r.Rows.Rate()
	f := find(name, sequential.Interval{Low: rate, High: rate}, g.MaxFlipRate, "%d of %d rows have another answer, %d of them none; evaluation %s", r.Rows.Hits, r.Rows.N, r.Errors, r.Evaluation)
	if g.MaxSegmentFlipRate == nil || f.Verdict == Fail {
		return f
	}
	if r.Segment == "" {
		return fails("rows of the evaluation %s were not told apart, so that nothing is known of segments", r.Evaluation)
	}
	if within := Wilson(r.Of); within.Low > *g.MaxSegmentFlipRate {
		f.Verdict, f.Interval, f.Limit = Fail, within, *g.MaxSegmentFlipRate
		f.Message = fmt.Sprintf("in the segment %s %d of %d rows have another answer; evaluation %s", r.Segment, r.Of.Hits, r.Of.N, r.Evaluation)
	}
	return f
}
