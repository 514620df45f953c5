package job

import (
	"cmp"
	"context"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/repo"
)

// update changes a prediction. Every change goes through here, so that the changeset that
// ends one also counts what it has used, exactly once.
func update(ctx context.Context, tx *repo.Tx, id ID, f func(*Prediction) error) (Prediction, error) {
	ended := false
	p, err := Predictions.Update(ctx, tx, id, func(p *Prediction) error {
		final := p.Status.Final()
		err := f(p)
		ended = !final && p.Status.Final()
		return err
	})
	if err != nil || !ended {
		return p, err
	}
	return p, usage.Publish(tx, repo.Key{Kind: Predictions.Name, ID: string(id)}, used(&p))
}

// used returns the usage of a prediction that has ended.
func used(p *Prediction) usage.Entry {
	u := p.Metrics.Used
	e := usage.Entry{
		What:   usage.What{Model: p.Model, Version: cmp.Or(p.Served, p.Version), Mode: usage.Durable},
		Amount: usage.Amount{Requests: 1, Rows: u.Rows, ComputeUS: u.ComputeUS, InputBytes: u.InputBytes, OutputBytes: u.OutputBytes},
	}
	switch p.Status {
	case Succeeded:
		e.Succeeded = 1
	case Failed:
		e.Failed = 1
	case Cancelled:
		e.Cancelled = 1
	case Expired:
		e.Expired = 1
	}
	return e
}
