package api

import (
	"context"
	"net/http"
	"time"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/fault"
)

// protocol makes durable predictions of requests of the Open Inference Protocol.
type protocol struct {
	*API
	prefix string // of the native API, for addresses
}

// Protocol returns what makes durable predictions of requests of the Open
// Inference Protocol; prefix is where this API is.
func (a *API) Protocol(prefix string) oip.Durable { return protocol{a, prefix} }

// Accept implements oip.Durable.
func (p protocol) Accept(ctx context.Context, q oip.Question, cancelAfter string) (string, error) {
	v, err := p.models.Lookup(q.Model, q.Version)
	if err == nil {
		err = durable(v)
	}
	if err != nil {
		return "", err
	}
	deadline, err := deadline(nil, cancelAfter, time.Now())
	if err != nil {
		return "", err
	}
	made, err := p.accept(ctx, job.Submit{Model: q.Model, Version: q.Version, Arm: p.arm(ctx, q.Model, q.Version, q.Header), Deadline: deadline}, job.Message{Body: q.Body, Text: q.Text})
	if err != nil {
		return "", err
	}
	return string(made.ID), nil
}

// Await implements oip.Durable.
func (p protocol) Await(ctx context.Context, id string, wait time.Duration) (o oip.Outcome, err error) {
	made, err := p.follow(ctx, job.ID(id), wait)
	if err != nil {
		return o, err
	}
	view := p.summary(p.prefix, made)
	// Who asked for no wait is told where the prediction is, even if it has ended.
	o = oip.Outcome{Location: view.URLs.Self, View: view, Final: wait > 0 && made.Status.Final(), Header: http.Header{}}
	switch {
	case !o.Final:
	case made.Status == job.Succeeded:
		o.Answer = p.content(o.Header, made)
	case made.Status == job.Expired:
		o.Failure = fault.New(fault.DeadlineExceeded, "Request timeout expired").WithCode("timeout")
	case made.Failure != nil:
		o.Failure = oip.Ended(made.Failure.Code, made.Failure.Message, made.Failure.Retryable)
	default:
		o.Failure = fault.New(fault.Conflict, "the prediction was cancelled")
	}
	return o, nil
}
