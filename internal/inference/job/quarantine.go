package job

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// The permissions of quarantines.
const (
	ReadQuarantines access.Permission = "quarantines:read"
	Release         access.Permission = "quarantines:release"
)

// QuarantineID is the id of a version's quarantine, qtn_…, which follows from the
// model's name and the version.
type QuarantineID string

func quarantineID(model, version string) QuarantineID {
	sum := sha256.Sum256([]byte(model + "\x00" + version))
	return QuarantineID("qtn_" + hex.EncodeToString(sum[:16]))
}

// Quarantine is a version of a model that workers may have died of. It belongs to the
// platform, as models do.
type Quarantine struct {
	aggregate.Root[QuarantineID]
	Model   string `json:"model"`
	Version string `json:"version"` // of the model
	// Deaths are those of workers that ran the version since a prediction of it last
	// succeeded.
	Deaths []Death   `json:"deaths,omitempty"`
	Active bool      `json:"active"` // it is not run any more
	Since  time.Time `json:"since,omitzero"`
}

// Death is that of a worker whose lease ended while it ran a prediction.
type Death struct {
	Prediction ID        `json:"prediction"`
	Worker     string    `json:"worker"`
	At         time.Time `json:"at"` // the last sign of life
}

// Quarantines keeps them.
var Quarantines = repo.Kind[QuarantineID, Quarantine]{
	Name: "quarantines", Root: func(q *Quarantine) *aggregate.Root[QuarantineID] { return &q.Root },
	Columns: []spec.Column[Quarantine]{
		spec.TextField("model", func(q *Quarantine) string { return q.Model }),
		spec.BoolField("active", func(q *Quarantine) bool { return q.Active }),
	},
}

// ModelQuarantined says that a version of a model is not run any more.
type ModelQuarantined struct {
	Model   string `json:"model"`
	Version string `json:"version"`
	Deaths  int    `json:"deaths"`
}

// EventType implements aggregate.Event.
func (ModelQuarantined) EventType() string { return "model.quarantined" }

// ModelReleased says that it is run again.
type ModelReleased struct {
	Model   string `json:"model"`
	Version string `json:"version"`
}

// EventType implements aggregate.Event.
func (ModelReleased) EventType() string { return "model.released" }

// Count adds a death; with most of them the quarantine begins. A prediction counts once: a
// poisonous input is no fault of the version's, and ends as a dead letter. Deaths less than
// apart from each other also count once: they may share a cause, such as a loss of power,
// and every prediction that a worker ran notices its death.
func (q *Quarantine) Count(d Death, most int, apart time.Duration, now time.Time) {
	if q.Active {
		return
	}
	for _, o := range q.Deaths {
		if o.Prediction == d.Prediction || o.At.Sub(d.At).Abs() < apart {
			return
		}
	}
	q.Deaths = append(q.Deaths, d)
	if len(q.Deaths) >= most {
		q.Active, q.Since = true, now
		q.Record(ModelQuarantined{q.Model, q.Version, len(q.Deaths)})
	}
}

// Survive says that a prediction of the version has succeeded.
func (q *Quarantine) Survive() {
	if !q.Active {
		q.Deaths = nil
	}
}

// Lift ends the quarantine; deaths are counted from none again.
func (q *Quarantine) Lift() {
	if q.Active {
		q.Active, q.Since = false, time.Time{}
		q.Record(ModelReleased{q.Model, q.Version})
	}
	q.Deaths = nil
}

// lost returns the death of the worker that a new attempt would replace now.
func (p *Prediction) lost(now time.Time, t Timing) (Death, bool) {
	if p.Status != Running && p.Status != Cancelling || now.Before(p.Due) {
		return Death{}, false
	}
	return Death{p.ID, p.Worker, p.Due.Add(-t.Lease)}, true
}

// quarantined is why a prediction is held, or refused.
var quarantined = Failure{"model_quarantined", "the version of the model is in quarantine: workers died while they ran it", true}

// errQuarantined refuses a new prediction. The quarantine may end, so it is retryable.
var errQuarantined = fault.New(fault.Unavailable, "%s; ask for another version, or try again once an operator has released it", quarantined.Message).
	WithCode(quarantined.Code).WithRetryAfter(time.Minute)

// Free ends a quarantine.
type Free struct {
	cqrs.Returns[*Quarantine]
	ID QuarantineID
}

// CommandName implements cqrs.Command.
func (Free) CommandName() string { return "quarantines.release" }

// Target implements cqrs.Targeted.
func (c Free) Target() (kind, id string) { return Quarantines.Name, string(c.ID) }

func free(ctx context.Context, tx *repo.Tx, c Free) (*Quarantine, error) {
	q, err := Quarantines.Update(ctx, tx, c.ID, func(q *Quarantine) error { q.Lift(); return nil })
	return &q, err
}
