package job

import (
	"time"

	"sluice/internal/platform/fault"
)

// expire ends a batch whose deadline has passed.
func (b *Batch) expire(now time.Time, t Timing) {
	if b.Ending == "" && !b.Deadline.IsZero() && !now.Before(b.Deadline) {
		b.end(Expired, nil, now, t)
	}
}

// remembered is for how long it is told of a batch that its results have expired: who comes
// late for them shall not be told that there never was such a batch.
const remembered = 24 * time.Hour

// forgotten is when the batch itself may go.
func (b *Batch) forgotten() time.Time {
	if b.Keep.IsZero() {
		return time.Time{}
	}
	return b.Keep.Add(remembered)
}

// Usable says whether the batch's file and what was made of it are still there, which is
// until Keep: fault.Gone behind that.
func (b *Batch) Usable(now time.Time) error {
	if b.Keep.IsZero() || now.Before(b.Keep) {
		return nil
	}
	return fault.New(fault.Gone, "the results of the batch %s have expired at %s: make another batch of the file", b.ID, b.Keep.UTC().Format(time.RFC3339)).WithCode("batch_expired")
}
