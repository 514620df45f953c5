// Package job has durable predictions: accepted once the store has them, run by
// whichever worker comes first, and ended exactly once.
//
// The store is the truth. A message in the queue is only a hint that a prediction is due;
// a reconciler sends it again, so that losing the queue loses no accepted work. Every
// attempt has a fence, its number: its outcome counts only while no later attempt has begun.
package job

import (
	"cmp"
	"context"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// ID is the id of a prediction, pred_….
type ID string

// Prefix is how ids of predictions begin.
const Prefix = "pred"

// Status is where a prediction is on its way.
type Status string

// The states. The last four are final.
const (
	Queued     Status = "queued"
	Running    Status = "running"
	Cancelling Status = "cancelling" // cancelled, while a worker still runs it
	Succeeded  Status = "succeeded"
	Failed     Status = "failed"
	Cancelled  Status = "cancelled"
	Expired    Status = "expired" // its deadline passed before it ended
)

// Final says whether nothing more happens.
func (s Status) Final() bool {
	switch s {
	case Succeeded, Failed, Cancelled, Expired:
		return true
	}
	return false
}

// Failure is why a prediction failed, for its client.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// Arm is the arm of an experiment that a prediction was given to when it was accepted. The
// arm's version runs it, whatever becomes of the experiment.
type Arm struct {
	Experiment string `json:"experiment"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	ByRule     bool   `json:"by_rule,omitempty"` // a rule gave it to the arm, and not chance
}

// Prediction is one durable prediction.
type Prediction struct {
	aggregate.Root[ID]
	Status Status `json:"status"`
	// Model and Version are what was asked for; Served and Digest say which version
	// answered.
	Model     string   `json:"model"`
	Version   string   `json:"version,omitempty"`
	Tried     string   `json:"tried,omitempty"` // the version of the current or last attempt
	Served    string   `json:"served,omitempty"`
	Digest    string   `json:"digest,omitempty"`
	Input     Payload  `json:"input"`
	Output    Payload  `json:"output,omitzero"`
	Failure   *Failure `json:"failure,omitempty"`
	ClientRef string   `json:"client_ref,omitempty"`
	Priority  Priority `json:"priority,omitempty"`
	Arm       Arm      `json:"arm,omitzero"`

	Attempt     int       `json:"attempt"`              // the fence of the current or last attempt
	GivenBack   int       `json:"given_back,omitempty"` // attempts of this life that workers gave back as they stopped
	Base        int       `json:"base,omitempty"`       // attempts of earlier lives, see Replay
	Replays     int       `json:"replays,omitempty"`
	Worker      string    `json:"worker,omitempty"`
	Waits       string    `json:"waits,omitempty"` // what keeps it from the queue while it is queued: see Park and Postpone
	Since       time.Time `json:"since,omitzero"`  // when it was accepted, or its present life began
	Held        time.Time `json:"held,omitzero"`   // since when no worker could run it, see Postpone
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	Deadline    time.Time `json:"deadline,omitzero"` // zero: none
	Keep        time.Time `json:"keep,omitzero"`     // when it may be forgotten; zero while it has not ended
	// Due is when the reconciler has to look after it: by then its worker is dead, or its
	// message was lost. Far in the future once it is final.
	Due time.Time `json:"due"`
	// Reminded is when its dead worker was last announced.
	Reminded time.Time `json:"reminded,omitzero"`
	Metrics  Metrics   `json:"metrics,omitzero"`
}

// Metrics says where the time of the attempt went that a model has answered.
type Metrics struct {
	QueueMS   float64 `json:"queue_ms"` // from acceptance to the start of the attempt
	BatchMS   float64 `json:"batch_ms"` // waiting for a place in a run
	InferMS   float64 `json:"infer_ms"`
	BatchSize int     `json:"batch_size"`
	Used      Used    `json:"used"`
}

// Used is what the attempt took of the model.
type Used struct {
	Rows        int64 `json:"rows"`
	ComputeUS   int64 `json:"compute_us"` // its share of the run, in microseconds
	InputBytes  int64 `json:"input_bytes"`
	OutputBytes int64 `json:"output_bytes"`
}

// Awaits reports whether a prediction of the tenant that has not ended is pinned to a version
// of a model.
func Awaits(ctx context.Context, from repo.Reading, name, version string) (bool, error) {
	rule := spec.And(pinned.Eq(version), model.Eq(name), status.In(Queued, Running, Cancelling))
	page, err := Predictions.Find(ctx, from, spec.Query[Prediction]{Where: rule, Limit: 1})
	return len(page.Items) > 0, err
}

// never is the Due of final predictions.
var never = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

// Predictions keeps them.
var Predictions = repo.Kind[ID, Prediction]{
	Name: "predictions", Root: func(p *Prediction) *aggregate.Root[ID] { return &p.Root },
	Columns: []spec.Column[Prediction]{status, model, clientRef, due, dead, stands, priority, pinned},
	Expires: func(p *Prediction) time.Time { return p.Keep },
}

var (
	status    = spec.TextField("status", func(p *Prediction) Status { return p.Status })
	model     = spec.TextField("model", func(p *Prediction) string { return p.Model })
	clientRef = spec.TextField("client_ref", func(p *Prediction) string { return p.ClientRef })
	due       = spec.TimeField("due", func(p *Prediction) time.Time { return p.Due })
	dead      = spec.BoolField("dead", (*Prediction).Dead)
	stands    = spec.TextField("stands", (*Prediction).stands)
	priority  = spec.TextField("priority", (*Prediction).Urgency)
	pinned    = spec.TextField("pinned", func(p *Prediction) string { return cmp.Or(p.Arm.Version, p.Version) })
)

// Changed says that a prediction is in another state. It has nothing of its input or
// output.
type Changed struct {
	Status   Status   `json:"status"`
	Previous Status   `json:"previous,omitempty"` // empty for one that is new
	Model    string   `json:"model"`
	Version  string   `json:"version,omitempty"`
	Attempt  int      `json:"attempt,omitempty"`
	Failure  *Failure `json:"failure,omitempty"`
}

// EventType implements aggregate.Event: prediction.queued, prediction.succeeded, ….
func (c Changed) EventType() string { return "prediction." + string(c.Status) }

// Timing is how long the parts of a prediction's life may take.
type Timing struct {
	Lease    time.Duration // of an attempt without a sign of life
	Notice   time.Duration // until a message that nobody has acted on is sent again
	Keep     time.Duration // of everything, from the end on
	Attempts int           // that may be begun, without those that were given back
	Hold     time.Duration // that a prediction waits for a worker that can run it
}

// move changes the state and records it.
func (p *Prediction) move(s Status) {
	previous := p.Status
	p.Status, p.Waits = s, ""
	version := p.Version
	if p.Served != "" {
		version = p.Served
	}
	p.Record(Changed{Status: s, Previous: previous, Model: p.Model, Version: version, Attempt: p.Attempt, Failure: p.Failure})
}

// end makes the prediction final.
func (p *Prediction) end(s Status, now time.Time, t Timing) {
	p.CompletedAt, p.Due, p.Keep, p.Worker = now, never, now.Add(t.Keep), ""
	p.move(s)
}

// Accept begins the prediction's life.
func (p *Prediction) Accept(now time.Time, t Timing) {
	p.Since, p.Due = now, p.within(now.Add(t.Notice))
	p.move(Queued)
}

// within returns at, or the deadline where that is earlier.
func (p *Prediction) within(at time.Time) time.Time {
	if !p.Deadline.IsZero() && p.Deadline.Before(at) {
		return p.Deadline
	}
	return at
}

// late says whether the deadline has passed.
func (p *Prediction) late(now time.Time) bool { return !p.Deadline.IsZero() && !now.Before(p.Deadline) }

// Overdue says whether the deadline has passed while it waits: it will expire, and
// needs nobody but Remind for that.
func (p *Prediction) Overdue(now time.Time) bool { return p.Status == Queued && p.late(now) }

// errStale refuses the outcome of an attempt that does not count any more.
var errStale = fault.New(fault.Conflict, "the attempt is not the latest any more").WithCode("stale_attempt")

// errBusy is returned by Start for a prediction that another worker is at.
var errBusy = fault.New(fault.Conflict, "another worker is at it").WithCode("attempt_under_way")

// Start begins an attempt with a version of the model, and returns whether it has begun: the
// prediction may be final by now, or end here because its deadline has passed, it was
// cancelled, or workers that died have used up all attempts.
func (p *Prediction) Start(worker, version string, now time.Time, t Timing) (begun bool, err error) {
	switch {
	case p.Status.Final():
		return false, nil
	case p.Status != Queued && now.Before(p.Due):
		return false, errBusy
	case p.Status == Cancelling:
		p.end(Cancelled, now, t)
		return false, nil
	case p.late(now):
		p.end(Expired, now, t)
		return false, nil
	case p.used() >= t.Attempts:
		p.Failure = &Failure{"attempts_exhausted", "every attempt ended without an outcome: the workers stopped in the middle of it", true}
		p.end(Failed, now, t)
		return false, nil
	}
	p.Attempt++
	p.Worker, p.Tried, p.Held, p.Due = worker, version, time.Time{}, now.Add(t.Lease)
	if p.StartedAt.IsZero() {
		p.StartedAt = now
	}
	p.move(Running)
	return true, nil
}

// used is how many of the allowed attempts were begun.
func (p *Prediction) used() int { return p.Attempt - p.Base - p.GivenBack }

// current refuses an outdated attempt.
func (p *Prediction) current(fence int) error {
	if p.Attempt != fence || p.Status != Running && p.Status != Cancelling {
		return errStale
	}
	return nil
}

// Extend extends the lease of an attempt. It returns whether the prediction is still wanted.
func (p *Prediction) Extend(fence int, now time.Time, t Timing) (wanted bool, err error) {
	if err := p.current(fence); err != nil {
		return false, err
	}
	p.Due = now.Add(t.Lease)
	return p.Status == Running, nil
}

// Succeed ends the prediction with what an attempt has computed. One that was
// cancelled meanwhile stays cancelled; what it took counts all the same.
func (p *Prediction) Succeed(fence int, out Payload, served, digest string, m Metrics, now time.Time, t Timing) error {
	if err := p.current(fence); err != nil {
		return err
	}
	p.Served, p.Digest, p.Metrics = served, digest, m
	if p.Status == Cancelling {
		p.end(Cancelled, now, t)
		return nil
	}
	p.Output = out
	p.end(Succeeded, now, t)
	return nil
}

// Fail ends an attempt without a result. If the cause may pass and there are attempts left,
// the prediction is due again after pause; otherwise it has failed.
func (p *Prediction) Fail(fence int, f Failure, pause time.Duration, now time.Time, t Timing) error {
	if err := p.current(fence); err != nil {
		return err
	}
	switch {
	case p.Status == Cancelling:
		p.end(Cancelled, now, t)
	case p.late(now):
		p.end(Expired, now, t)
	case f.Retryable && p.used() < t.Attempts:
		p.Worker, p.Due = "", p.within(now.Add(pause))
		p.move(Queued)
	default:
		p.Failure = &f
		p.end(Failed, now, t)
	}
	return nil
}

// GiveBack ends an attempt whose worker stops. It does not count against the allowed
// attempts, and the prediction is due at once.
func (p *Prediction) GiveBack(fence int, now time.Time, t Timing) error {
	if err := p.current(fence); err != nil {
		return err
	}
	if p.Status == Cancelling {
		p.end(Cancelled, now, t)
		return nil
	}
	p.GivenBack++
	p.Worker, p.Due = "", now
	p.move(Queued)
	return nil
}

// Cancel cancels the prediction. What is final stays as it is.
func (p *Prediction) Cancel(now time.Time, t Timing) {
	switch {
	case p.Overdue(now): // readers have been told that it expired
		p.end(Expired, now, t)
	case p.Status == Queued:
		p.end(Cancelled, now, t)
	case p.Status == Running:
		p.move(Cancelling)
	}
}

// Remind returns whether the prediction has to be announced now, and notes that, so that it
// is announced again only after a while. It ends a prediction that is not wanted any more
// and has no worker: at once if none has begun it, otherwise if no worker has come since
// the death of the last was announced.
func (p *Prediction) Remind(now time.Time, t Timing) (overdue bool) {
	told := !p.Reminded.Before(p.Due) // announced since the worker's lease ended
	switch {
	case p.Status.Final(), now.Before(p.Due):
		return false
	case p.Overdue(now):
		p.end(Expired, now, t)
		return false
	case p.Status == Queued:
		p.Due = p.within(now.Add(t.Notice)) // one that is held stays so until it is begun
		return true
	case told && now.Before(p.Reminded.Add(t.Notice)):
		return false
	case told && p.Status == Cancelling:
		p.end(Cancelled, now, t)
		return false
	case told && p.late(now):
		p.end(Expired, now, t)
		return false
	}
	p.Reminded = now // Due stays: only a worker that takes the prediction over moves it
	return true
}
