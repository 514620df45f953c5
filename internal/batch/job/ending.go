package job

import "time"

// Fail ends the batch because of what its file or its model is.
func (b *Batch) Fail(c Claim, f Failure, rows []RowError, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	b.note(rows)
	b.end(Failed, &f, now, t)
	return nil
}

// end has no more rows run. The results are summed up then. Rows that a retry has
// not come to are what they were before: their chunks have results that say so.
func (b *Batch) end(s Status, f *Failure, now time.Time, t Timing) {
	for i := range b.Chunks {
		if c := &b.Chunks[i]; !c.Done && c.Result.Key != "" {
			c.Done = true
			b.Counts.Failed += int64(c.Failed)
		}
	}
	if f != nil {
		f.Retryable = f.Retryable && len(b.Chunks) > 0 // see Retry
	}
	pending := b.Counts.Pending()
	if s == Expired {
		b.Counts.Expired += pending
	} else {
		b.Counts.Cancelled += pending
	}
	for i := range b.Chunks {
		b.Chunks[i].Until = time.Time{}
		b.Chunks[i].free()
	}
	b.Ending, b.Failure, b.Until, b.Tries, b.Cause = s, f, time.Time{}, 0, "" // why chunks failed is no cause of what follows
	b.Fence++                                                                 // whoever validates
	b.look(now.Add(t.Notice))
	if s == Cancelled {
		b.move(Cancelling)
		return
	}
	b.move(Finalizing)
}

// Finish makes the batch final.
func (b *Batch) Finish(c Claim, results *Object, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	b.final(results, now, t)
	return nil
}

func (b *Batch) final(results *Object, now time.Time, t Timing) {
	b.Results, b.Until, b.CompletedAt = results, time.Time{}, now
	b.Due, b.Keep = never, now.Add(t.Keep)
	b.move(b.Ending)
}

// Cancel says that the batch is wanted no more; what is done stays. One that ends
// already does so as it would have.
func (b *Batch) Cancel(now time.Time, t Timing) {
	if b.Ending == "" {
		b.end(Cancelled, nil, now, t)
	}
}

// exhausted ends a batch that workers have tried too often.
func (b *Batch) exhausted(what string, now time.Time, t Timing) {
	b.end(Failed, b.tooOften(what), now, t)
}

func (b *Batch) tooOften(what string) *Failure {
	why := "the workers stopped in the middle of it"
	if b.Cause != "" {
		why = "at last because: " + b.Cause
	}
	return &Failure{"attempts_exhausted", what + ", " + why, true}
}

// finalAttempts is how many times as often as a chunk it is tried to put the results together:
// everything is computed then, and only what is lost for good fails for ever.
const finalAttempts = 4

// unfinished makes a batch final whose results cannot be put together.
func (b *Batch) unfinished(now time.Time, t Timing) {
	if b.Ending == Completed {
		b.Ending, b.Failure = Failed, b.tooOften("the results could not be put together")
	}
	b.final(nil, now, t)
}
