package job

import (
	"time"
)

// Quote is what a batch was expected to take when it was accepted. Times of a row are
// nanoseconds.
type Quote struct {
	Rows    int64         `json:"rows"`
	Exact   bool          `json:"exact,omitempty"` // the rows are not estimated from the first ones
	Ahead   int64         `json:"ahead,omitempty"` // rows of other batches that have their turns meanwhile
	Begin   time.Duration `json:"begin"`           // what every batch takes
	Row     float64       `json:"row"`             // until one more row is done
	Slow    float64       `json:"slow"`            // the same, of the slowest twentieth of batches
	Plain   float64       `json:"plain"`           // Row, without what was learned from other batches
	Compute float64       `json:"compute"`         // a row's share of the model's runs
}

// Duration is how long so many rows take.
func (q *Quote) Duration(rows int64) time.Duration { return q.lasts(rows, q.Row) }

// P95 is how long so many rows take at most, in nineteen of twenty batches.
func (q *Quote) P95(rows int64) time.Duration { return q.lasts(rows, q.Slow) }

func (q *Quote) lasts(rows int64, each float64) time.Duration {
	const most = float64(100 * 365 * 24 * time.Hour)
	return q.Begin + time.Duration(min(float64(rows+min(q.Ahead, rows))*each, most))
}

// ETA is when all rows will be done, and when they will in nineteen of twenty batches:
// by the rate of the present run, before its first rows by the quote. Both are zero where
// nobody can tell.
func (b *Batch) ETA(now time.Time) (common, slow time.Time) {
	pending := b.Counts.Pending()
	q := b.Quote
	switch {
	case b.Status.Final() || b.Status == Paused || b.Ending != "":
		return common, slow
	case b.Status == Running && b.Rate(now) > 0:
		left := time.Duration(min(float64(pending)/b.Rate(now), 1e8) * float64(time.Second))
		spread := 1.25
		if q != nil && q.Row > 0 {
			spread = max(q.Slow/q.Row, 1)
		}
		return now.Add(left), now.Add(time.Duration(float64(left) * spread))
	case q == nil:
		return common, slow
	case b.Status == Validating:
		pending = q.Rows
	}
	return now.Add(q.Duration(pending)), now.Add(q.P95(pending))
}

// Late says whether the forecast is behind the deadline.
func (b *Batch) Late(now time.Time) bool {
	eta, _ := b.ETA(now)
	return !b.Deadline.IsZero() && eta.After(b.Deadline)
}
