package job

import (
	"cmp"
	"slices"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/platform/fault"
)

// Chunk is some rows of the file, in the ledger of its batch.
type Chunk struct {
	Begin  ingest.Position `json:"b"`
	Rows   int             `json:"n"`
	Sum    uint32          `json:"s,omitempty"` // see ingest.Chunk
	Twice  []int           `json:"2,omitempty"` // rows whose id another row has before them, ascending
	Twices Object          `json:"w,omitzero"`  // the same, as JSON, where they are more than MaxTwice
	Fence  int             `json:"f,omitempty"`
	Until  time.Time       `json:"u,omitzero"` // when its worker counts as dead; zero: none has it
	Tries  int             `json:"t,omitempty"`
	Done   bool            `json:"d,omitempty"`
	Failed int             `json:"e,omitempty"` // rows, of the result that there is
	Result Object          `json:"r,omitzero"`  // also of a chunk that is run again for its failed rows
	Errors Object          `json:"x,omitzero"`  // the failed rows, as JSON Lines
	Danger *Danger         `json:"k,omitempty"` // of the workers that died at it; nil: none has
	Taken  bool            `json:"a,omitempty"` // a worker has it, or died while it had
}

// MaxTwice is how many rows with ids of others a chunk has in the ledger itself,
// which is read and written whole.
const MaxTwice = 16

// succeeded is how many rows have, of the result that there is.
func (c *Chunk) succeeded() int {
	if c.Result.Key == "" {
		return 0
	}
	return c.Rows - c.Failed
}

// Timing is how long the parts of a batch's life may take.
type Timing struct {
	Lease    time.Duration // of a claim without a sign of life
	Notice   time.Duration // until a message that nobody has acted on is sent again
	Keep     time.Duration // of everything, from the end on
	Attempts int           // at one chunk, by workers that died or could not
	Absent   time.Duration // of the model from every process that comes, before the batch fails
}

func (t Timing) withDefaults() Timing {
	t.Lease = cmp.Or(t.Lease, 30*time.Second)
	t.Notice = cmp.Or(t.Notice, 30*time.Second)
	t.Keep = cmp.Or(t.Keep, 7*24*time.Hour)
	t.Attempts = cmp.Or(t.Attempts, 5)
	t.Absent = cmp.Or(t.Absent, 5*time.Minute)
	return t
}

// Step is what a worker has claimed.
type Step int

// The steps.
const (
	Nothing  Step = iota // others do what there is to do
	Plan                 // count the rows, and cut them into chunks
	Compute              // run a chunk
	Finalize             // sum up the results
)

// Claim is a worker's right to do a step.
type Claim struct {
	Step  Step
	Chunk int // of Compute
	Fence int
}

// ErrStale is what a worker is told whose claim does not count any more.
var ErrStale = fault.New(fault.Conflict, "the claim is not the latest any more").WithCode("stale_claim")

// look has somebody look after the batch at a time, or when its deadline passes.
func (b *Batch) look(at time.Time) {
	b.Due = at
	if !b.Deadline.IsZero() && b.Deadline.Before(at) && b.Ending == "" {
		b.Due = b.Deadline
	}
}

// Accept begins the batch's life.
func (b *Batch) Accept(now time.Time, t Timing) {
	b.look(now.Add(t.Notice))
	b.move(Validating)
}

// Claim gives a worker the next thing to do.
func (b *Batch) Claim(now time.Time, t Timing) Claim {
	if b.expire(now, t); b.Status.Final() || b.Status == Paused {
		return Claim{}
	}
	b.Absent = time.Time{}
	if b.Status != Running {
		return b.claimWhole(now, t)
	}
	for i := range b.Chunks {
		c := &b.Chunks[i]
		if c.Done || now.Before(c.Until) {
			continue
		}
		if c.Taken {
			c.bury()
		}
		if b.deadly() > MaxDeadly {
			b.end(Failed, &Failure{"model_crashed", "more rows end the process that runs them than a batch may have of such: try the model's version with them", false}, now, t)
			return b.claimWhole(now, t)
		}
		if c.Tries >= t.Attempts {
			b.exhausted("a chunk of the file was begun too often without an outcome", now, t)
			return b.claimWhole(now, t)
		}
		c.Fence++
		c.Tries++
		c.Until, c.Taken = now.Add(t.Lease), true
		b.look(c.Until)
		if b.StartedAt.IsZero() {
			b.StartedAt = now
		}
		return Claim{Compute, i, c.Fence}
	}
	return Claim{}
}

// ClaimWithout is Claim of a worker that does not have the model, which it takes to
// plan and to compute. A batch whose model nobody has had for some time fails. It
// returns whether the batch waits for a worker that has the model.
func (b *Batch) ClaimWithout(now time.Time, t Timing) (c Claim, waits bool) {
	b.expire(now, t)
	if b.Status != Running && b.Status != Validating {
		return b.Claim(now, t), false
	}
	switch {
	case b.alive(now):
		b.Absent = time.Time{}
	case b.Absent.IsZero():
		b.Absent = now
	case now.Sub(b.Absent) >= t.Absent:
		b.end(Failed, &Failure{"model_not_found", "no process has had the model's version for " + t.Absent.String() + ": load it, and retry the batch", true}, now, t)
		return b.claimWhole(now, t), false
	}
	return Claim{}, true
}

// alive says whether a worker is at the batch.
func (b *Batch) alive(now time.Time) bool {
	return now.Before(b.Until) || slices.ContainsFunc(b.Chunks, func(c Chunk) bool { return now.Before(c.Until) })
}

// claimWhole claims what one worker does for the whole batch.
func (b *Batch) claimWhole(now time.Time, t Timing) Claim {
	if now.Before(b.Until) {
		return Claim{}
	}
	step := Finalize
	if b.Status == Validating {
		step = Plan
		if b.Tries >= t.Attempts {
			b.exhausted("the file could not be read", now, t)
			step = Finalize
		}
	} else if b.Tries >= finalAttempts*t.Attempts {
		b.unfinished(now, t)
		return Claim{}
	}
	b.Fence++
	b.Tries++
	b.Until = now.Add(t.Lease)
	b.look(b.Until)
	return Claim{step, 0, b.Fence}
}

// current returns ErrStale where a claim does not count.
func (b *Batch) current(c Claim) error {
	switch {
	case c.Step == Compute && b.Status == Running && c.Chunk < len(b.Chunks) && b.Chunks[c.Chunk].Fence == c.Fence && !b.Chunks[c.Chunk].Done,
		c.Step == Plan && b.Status == Validating && b.Fence == c.Fence,
		c.Step == Finalize && (b.Status == Finalizing || b.Status == Cancelling) && b.Fence == c.Fence:
		return nil
	}
	return ErrStale
}

// Extend is a sign of life of a worker.
func (b *Batch) Extend(c Claim, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	if c.Step == Compute {
		b.Chunks[c.Chunk].Until = now.Add(t.Lease)
	} else {
		b.Until = now.Add(t.Lease)
	}
	b.look(now.Add(t.Lease))
	return nil
}

// GiveBack ends a claim without an outcome: at it was no fault of the chunk's where
// innocent, and the next worker begins after pause.
func (b *Batch) GiveBack(c Claim, innocent bool, pause time.Duration, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	tries, until := &b.Tries, &b.Until
	if c.Step == Compute {
		tries, until = &b.Chunks[c.Chunk].Tries, &b.Chunks[c.Chunk].Until
		b.Chunks[c.Chunk].free()
	}
	if innocent {
		*tries = max(*tries-1, 0)
	}
	*until = now.Add(pause)
	if pause == 0 {
		*until = time.Time{}
	}
	b.look(now.Add(pause))
	return nil
}

// Planned has the chunks run that a worker has cut the file into.
func (b *Batch) Planned(c Claim, chunks []Chunk, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	b.Chunks, b.Until, b.Tries = chunks, time.Time{}, 0
	for i := range chunks {
		b.Counts.Total += int64(chunks[i].Rows)
	}
	if q := b.Quote; q != nil {
		q.Rows, q.Exact = b.Counts.Total, true
	}
	b.Since = now
	b.look(now.Add(t.Notice))
	b.move(Running)
	if len(chunks) == 0 {
		b.end(Completed, nil, now, t)
	}
	return nil
}

// Outcome is what a worker has made of a chunk.
type Outcome struct {
	Result, Errors Object
	Rows           []RowError // of those that failed, by index; MaxErrors are enough
	Failed         int        // rows, in all
	Reused         int        // rows that were answered by the run of an equal one
	Used           Used
}

// Computed counts a chunk, and ends the batch with the last one, or where too many
// rows have failed.
func (b *Batch) Computed(c Claim, o Outcome, now time.Time, t Timing) error {
	if err := b.current(c); err != nil {
		return err
	}
	chunk := &b.Chunks[c.Chunk]
	b.Counts.Succeeded += int64(chunk.Rows - o.Failed - chunk.succeeded())
	chunk.Done, chunk.Until, chunk.Tries, b.Waits = true, time.Time{}, 0, nil
	chunk.Result, chunk.Errors, chunk.Failed = o.Result, o.Errors, o.Failed
	chunk.settle()
	b.Counts.Failed += int64(o.Failed)
	b.Used.Add(o.Used)
	b.Reused += int64(o.Reused)
	b.note(o.Rows)
	b.look(now.Add(t.Lease))
	switch {
	case b.Stop && b.Counts.Failed > 0:
		b.end(Failed, &Failure{Code: "row_failed", Message: "a row has failed, and the batch was to stop then"}, now, t)
	case float64(b.Counts.Failed) > b.MaxErrorRatio*float64(b.Counts.Total):
		b.end(Failed, &Failure{Code: "too_many_row_errors", Message: "more rows have failed than max_error_ratio allows"}, now, t)
	case b.Counts.Pending() == 0:
		b.end(Completed, nil, now, t)
	case b.Percent() > b.Told:
		b.advance(now)
	}
	return nil
}

// note adds errors of rows, of which the first are kept.
func (b *Batch) note(rows []RowError) {
	b.Errors = append(b.Errors, rows[:min(len(rows), MaxErrors)]...)
	slices.SortFunc(b.Errors, func(x, y RowError) int { return cmp.Compare(x.Index, y.Index) })
	b.Errors = b.Errors[:min(len(b.Errors), MaxErrors)]
}

// errState is a change that does not fit the batch's state.
func (b *Batch) errState(verb string) error {
	return fault.New(fault.Conflict, "a batch that is %s cannot be %s", b.Status, verb).WithCode("batch_state")
}

// Pause has no chunk begun until Resume. Those that run are given up.
func (b *Batch) Pause() error {
	switch b.Status {
	case Paused:
		return nil
	case Running:
		b.Due = never
		if !b.Deadline.IsZero() {
			b.Due = b.Deadline
		}
		for i := range b.Chunks {
			if c := &b.Chunks[i]; !c.Until.IsZero() {
				c.Fence++
				c.Tries = max(c.Tries-1, 0)
				c.Until = time.Time{}
				c.free()
			}
		}
		b.move(Paused)
		return nil
	}
	return b.errState("paused")
}

// Resume goes on after Pause.
func (b *Batch) Resume(now time.Time, t Timing) error {
	switch b.Status {
	case Running, Validating:
		return nil
	case Paused:
		b.run(now, t)
		return nil
	}
	return b.errState("resumed")
}

func (b *Batch) run(now time.Time, t Timing) {
	b.Since, b.Base = now, b.Counts.Succeeded+b.Counts.Failed
	b.Absent, b.Cause = time.Time{}, ""
	b.look(now.Add(t.Notice))
	b.move(Running)
}

// Retry runs the rows again that have not succeeded, and no others.
func (b *Batch) Retry(now time.Time, t Timing) error {
	if err := b.Usable(now); err != nil {
		return err
	}
	switch {
	case !b.Status.Final():
		return b.errState("retried")
	case len(b.Chunks) == 0:
		return fault.New(fault.Conflict, "the batch has no rows that could be run again: its file could not be read").WithCode("batch_state")
	case b.Counts.Succeeded == b.Counts.Total && b.Results != nil:
		return fault.New(fault.Conflict, "all rows of the batch have succeeded").WithCode("batch_state")
	}
	for i := range b.Chunks {
		c := &b.Chunks[i]
		if c.Done && c.Failed == 0 {
			continue
		}
		c.Done, c.Tries = false, 0
	}
	b.Counts.Failed, b.Counts.Cancelled, b.Counts.Expired = 0, 0, 0
	b.Ending, b.Failure, b.Errors, b.Results, b.Files, b.Deadline = "", nil, nil, nil, nil, time.Time{}
	b.CompletedAt, b.Keep, b.Told = time.Time{}, time.Time{}, 0
	b.Retries++
	b.run(now, t)
	if b.Counts.Pending() == 0 { // only the results are not put together
		b.end(Completed, nil, now, t)
	}
	return nil
}

// Remind says whether somebody has to be told that the batch is due, and notes that.
func (b *Batch) Remind(now time.Time, t Timing) (overdue bool) {
	if b.Status.Final() || now.Before(b.Due) {
		return false
	}
	if b.expire(now, t); b.Status == Paused {
		b.Due = never
		return false
	}
	b.Due = now.Add(t.Notice)
	return true
}
