package api

import (
	"context"
	"encoding/json"

	"sluice/internal/inference/oip"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// input is an input of a WebSocket on its way: a stream.Item.
type input struct {
	socket  *socket
	ask     *inFrame
	own     *stream.Own // the sequence that it is a step of, if it names none
	steps   bool        // it is generated, and sent step by step while it runs
	failed  error       // why it was refused before it ran
	answer  outFrame
	unsent  error // why a step could not be sent
	account budget.Account
}

// Run implements stream.Item.
func (i *input) Run(ctx context.Context) error {
	if i.failed != nil || i.steps {
		return i.failed
	}
	return i.predict(ctx, i.keep)
}

// keep takes over an answer that is to be sent, and counts its memory.
func (i *input) keep(a oip.Answered) error {
	if err := i.account.Acquire(int64(len(a.Body))); err != nil {
		return err
	}
	return i.answer.output(a)
}

// predict has the model answer; emit gets each answer.
func (i *input) predict(ctx context.Context, emit func(oip.Answered) error) error {
	s := i.socket
	v, err := s.api.models.Lookup(s.model, s.version)
	if err != nil {
		return err
	}
	body, err := question(v, &i.ask.NewPrediction)
	if err != nil {
		return err
	}
	if err := i.account.Acquire(int64(len(body))); err != nil {
		return err
	}
	q := oip.Question{Model: s.model, Version: s.version, Body: body, Tenant: s.principal.Tenant, Header: s.header}
	return oip.Steps(withoutDeadline{ctx}, s.api.models, s.api.memory, q, i.own, emit)
}

// Send implements stream.Item.
func (i *input) Send(ctx context.Context, failed error) error {
	if failed == nil && i.steps {
		failed = fault.Guard(func() error {
			return i.predict(ctx, func(a oip.Answered) error {
				if err := i.keep(a); err != nil {
					return err
				}
				i.unsent = i.write(ctx)
				i.account.Return(int64(len(a.Body)))
				return i.unsent
			})
		})
		if failed == nil || i.unsent != nil {
			return i.unsent
		}
	}
	if failed != nil {
		i.answer.failed(failed)
	}
	return i.write(ctx)
}

// write sends the answer once there is credit for it.
func (i *input) write(ctx context.Context) error {
	b, err := json.Marshal(&i.answer)
	if err != nil {
		i.answer.failed(fault.Wrap(fault.Internal, err, "the answer cannot be written as JSON"))
		b, _ = json.Marshal(&i.answer) // texts always can be
	}
	if err := i.socket.credit.take(ctx); err != nil {
		return err
	}
	if !i.answer.More { // from here on the client may send another
		i.socket.unanswered.Add(-1)
	}
	return i.socket.write(b)
}

// Done implements stream.Item.
func (i *input) Done() { i.account.Release() }
