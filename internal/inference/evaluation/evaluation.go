// Package evaluation has a version of a model answer again what was asked before, and says
// how its answers differ: a candidate is known before it has one live request. What is asked
// are predictions of the log, whose tensors it has kept, or the rows of a file; what is
// compared with is the answer that was logged, or that of another version.
//
// An evaluation is an aggregate, which any process with the models carries on: a message in
// the queue says that there is something to do, and the store what. Whoever takes it has a
// fence. It goes through its cases chunk by chunk; what a chunk comes to, and the rows that
// differ as an object of their own, are committed together with the cursor behind it. So a
// process that dies costs a chunk, and where chunks end depends on the cases alone: the file
// of differences has the same bytes, whoever dies.
//
// Known limits: entries that come to the log after their time was gone through are not
// asked. Where a model's answers depend on the rows that it runs with, they may differ from
// run to run. A subject that is erased from the log stays in the differences until these
// expire.
package evaluation

import (
	"errors"
	"fmt"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of an evaluation, eval_….
type ID string

// Prefix is how ids of evaluations begin.
const Prefix = "eval"

// Status is where an evaluation is on its way.
type Status string

// The states. The last three are final.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Part is an object with rows that differ, as JSON Lines.
type Part struct {
	Object string `json:"object"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Failure is why an evaluation failed, for its client.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Diff is the file of differences: its parts, one after the other.
type Diff struct {
	Parts []Part `json:"parts,omitempty"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	// Outputs are the names of those that its lines have, in order.
	Outputs []string `json:"outputs,omitempty"`
	// Sum is the state of the digest of all bytes, and SHA256 the digest in hexadecimal once
	// all are there.
	Sum    []byte `json:"sum,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// Checkpoint is how far an evaluation is.
type Checkpoint struct {
	Cursor string `json:"cursor,omitempty"` // behind what was gone through
	Chunks int    `json:"chunks"`
	Result Result `json:"result"`
	Diff   Diff   `json:"diff"`
}

// Evaluation is one evaluation.
type Evaluation struct {
	aggregate.Root[ID]
	Name        string     `json:"name,omitempty"` // of the client's own
	Status      Status     `json:"status"`
	Request     Request    `json:"request"`
	Done        Checkpoint `json:"done"`
	Failure     *Failure   `json:"failure,omitempty"`
	StartedAt   time.Time  `json:"started_at,omitzero"`
	CompletedAt time.Time  `json:"completed_at,omitzero"`

	Attempt int       `json:"attempt"`        // the fence of the attempt under way, or of the last
	Tries   int       `json:"tries"`          // attempts since the last checkpoint, but for those of workers that stopped in order
	After   time.Time `json:"after,omitzero"` // when the next attempt may begin; zero is at once
	Due     time.Time `json:"due"`            // when somebody has to look after it; far in the future for nobody
	Keep    time.Time `json:"keep"`           // when it is forgotten, and its differences with it
}

// Evaluations keeps them.
var Evaluations = repo.Kind[ID, Evaluation]{
	Name: "evaluations", Root: func(e *Evaluation) *aggregate.Root[ID] { return &e.Root },
	Columns: []spec.Column[Evaluation]{ofStatus, ofModel, due},
	Expires: func(e *Evaluation) time.Time { return e.Keep },
}

var (
	ofStatus = spec.TextField("status", func(e *Evaluation) Status { return e.Status })
	ofModel  = spec.TextField("model", func(e *Evaluation) string { return e.Request.Model })
	due      = spec.TimeField("due", func(e *Evaluation) time.Time { return e.Due })
)

// never is the Due of what needs nobody any more.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	lease    = 30 * time.Second // for which a worker may give no sign of life
	notice   = time.Minute      // for which what was said of an evaluation that waits is believed to be heard
	maxTries = 5
)

// Changed says that an evaluation is in another state, or how far it is.
type Changed struct {
	Status    Status   `json:"status"`
	Model     string   `json:"model"`
	Candidate string   `json:"candidate"`
	Rows      int64    `json:"rows"`
	Flips     int64    `json:"flips"`
	FlipRate  *float64 `json:"flip_rate"` // nil where no rows were compared
	Failure   *Failure `json:"failure,omitempty"`

	progress bool
}

// EventType implements aggregate.Event: evaluation.queued, evaluation.progress,
// evaluation.completed, ….
func (c Changed) EventType() string {
	if c.progress {
		return "evaluation.progress"
	}
	return "evaluation." + string(c.Status)
}

func (e *Evaluation) record(progress bool) {
	r := &e.Done.Result
	e.Record(Changed{Status: e.Status, Model: e.Request.Model, Candidate: e.Request.Candidate.Number, Rows: r.Rows, Flips: r.Flips, FlipRate: r.FlipRate(), Failure: e.Failure, progress: progress})
}

func (e *Evaluation) move(s Status, due, keep time.Time) {
	e.Status, e.Due, e.Keep = s, due, keep
	e.record(false)
}

// Final says whether nothing more is asked.
func (e *Evaluation) Final() bool { return e.Status != Queued && e.Status != Running }

var errLost = fault.New(fault.Conflict, "another worker has the evaluation since, or nobody wants it any more").WithCode("evaluation_lost")

// lost says whether an attempt has nothing more to do.
func lost(err error) bool { return errors.Is(err, errLost) || errors.Is(err, repo.ErrNotFound) }

// Take begins an attempt: it returns errLost where there is none to begin. An evaluation
// whose workers have died too often at the same place has Failed instead.
func (e *Evaluation) Take(now time.Time, keep time.Duration) error {
	if e.Final() || e.Status == Running && now.Before(e.Due) || now.Before(e.After) {
		return errLost
	}
	if e.Tries >= maxTries {
		e.end(Failed, &Failure{"attempts_exhausted", fmt.Sprintf("%d attempts came to nothing, and the worker of the last one died", e.Tries)}, now, keep)
		return nil
	}
	e.After = time.Time{}
	e.Attempt++
	e.Tries++
	if e.StartedAt.IsZero() {
		e.StartedAt = now
	}
	e.move(Running, now.Add(lease), e.Keep)
	return nil
}

// Extend says that the attempt is alive.
func (e *Evaluation) Extend(attempt int, now time.Time) error {
	if e.Status != Running || e.Attempt != attempt {
		return errLost
	}
	e.Due = now.Add(lease)
	return nil
}

// Advance notes what the attempt has come to; end says that this is all.
func (e *Evaluation) Advance(attempt int, c Checkpoint, end bool, now time.Time, keep time.Duration) error {
	if err := e.Extend(attempt, now); err != nil {
		return err
	}
	e.Tries, e.Done = 0, c
	if end {
		e.end(Completed, nil, now, keep)
		return nil
	}
	e.Tries = 1 // this one
	e.record(true)
	return nil
}

// Stop ends an attempt that came to nothing. It is tried again where that may help, and
// else the evaluation has failed.
func (e *Evaluation) Stop(attempt int, why error, stopped bool, now time.Time, keep time.Duration) error {
	if err := e.Extend(attempt, now); err != nil {
		return err
	}
	f := fault.Of(why)
	switch {
	case stopped: // the worker, in order
		e.Tries--
		e.move(Queued, now.Add(notice), e.Keep)
	case f.Kind.Retryable() && e.Tries < maxTries:
		e.After = now.Add(time.Second << e.Tries)
		e.move(Queued, e.After, e.Keep)
	default:
		e.end(Failed, &Failure{fault.CodeOf(f), f.Text()}, now, keep)
	}
	return nil
}

// end ends an evaluation. What it has come to until then stays.
func (e *Evaluation) end(s Status, f *Failure, now time.Time, keep time.Duration) {
	e.Failure, e.CompletedAt = f, now
	e.move(s, never, now.Add(keep))
}

// Remind says whether somebody has to be told that the evaluation waits for a worker, and
// notes that.
func (e *Evaluation) Remind(now time.Time) bool {
	if e.Final() || now.Before(e.Due) {
		return false
	}
	if e.Status == Running { // and its worker gives no sign of life
		e.move(Queued, now, e.Keep)
	}
	e.Due = now.Add(notice)
	return true
}

// Cancel ends an evaluation that is not wanted any more. One that has ended stays as it is.
func (e *Evaluation) Cancel(now time.Time, keep time.Duration) {
	if !e.Final() {
		e.end(Cancelled, nil, now, keep)
	}
}

// Usable returns why there are no differences to download, nil where there are.
func (e *Evaluation) Usable() error {
	if e.Final() && e.Done.Diff.SHA256 != "" {
		return nil
	}
	if e.Final() {
		return fault.New(fault.Conflict, "the evaluation %s has %s, and its differences are not all there: evaluate again", e.ID, e.Status).WithCode("evaluation_no_diff")
	}
	return fault.New(fault.Conflict, "the evaluation %s has not ended: wait for its status, or for the event evaluation.completed", e.ID).WithCode("evaluation_incomplete").WithRetryAfter(2 * time.Second)
}
