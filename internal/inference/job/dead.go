package job

import (
	"context"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Replays is the permission to give dead letters a new life.
const Replays access.Permission = "predictions:replay"

// Dead says whether the prediction is a dead letter: one that failed although
// nothing is known to be wrong with it, because its attempts were used up or no
// worker could run it for too long. Its Failure says why.
func (p *Prediction) Dead() bool {
	return p.Status == Failed && p.Failure != nil && p.Failure.Retryable
}

// errNotDead is returned by Replay for what is no dead letter.
var errNotDead = fault.New(fault.Conflict, "only a dead letter can be replayed: a prediction that failed for want of attempts or of a worker").WithCode("not_a_dead_letter")

// Replay gives a dead letter a new life under the same id, with all of its
// attempts and without its deadline, which was for the first. The fence goes on
// rising: what an attempt of an earlier life still computes does not count.
func (p *Prediction) Replay(now time.Time, t Timing) error {
	if !p.Dead() {
		return errNotDead
	}
	p.Base, p.GivenBack = p.Attempt, 0
	p.Replays++
	p.Failure, p.Tried = nil, ""
	p.StartedAt, p.CompletedAt, p.Deadline, p.Keep, p.Held, p.Reminded = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
	p.Accept(now, t)
	return nil
}

// Revive replays a dead letter.
type Revive struct {
	cqrs.Returns[*Prediction]
	ID ID
}

// CommandName implements cqrs.Command.
func (Revive) CommandName() string { return "predictions.replay" }

// Target implements cqrs.Targeted.
func (c Revive) Target() (kind, id string) { return Predictions.Name, string(c.ID) }

func revive(cfg Config) func(context.Context, *repo.Tx, Revive) (*Prediction, error) {
	return func(ctx context.Context, tx *repo.Tx, c Revive) (*Prediction, error) {
		p, err := update(ctx, tx, c.ID, func(p *Prediction) error {
			err := p.Replay(tx.Now(), cfg.Timing)
			if err == nil && cfg.Queued(tx.Tenant()) >= window {
				p.Park()
			}
			return err
		})
		if err != nil || p.Waits != "" {
			return &p, err
		}
		return &p, announce(tx, &p)
	}
}
