package evaluations

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/evaluation"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
)

// models are those of this process, asked as work that waits for spare rows of online
// requests' runs.
type models struct{ serve serve.Models }

// Find implements evaluation.Models.
func (m models) Find(model, version string) (*evaluation.Served, error) {
	v, err := m.serve.Lookup(model, version)
	if err != nil {
		return nil, err
	}
	return &evaluation.Served{Version: evaluation.Version{Number: v.Text, Digest: v.SHA256}, Inputs: v.Signature.Inputs, Outputs: v.Signature.Outputs,
		Logged: v.Logged(), Rows: v.Batches, Steps: v.Stateful() || v.Generative()}, nil
}

// Ask implements evaluation.Models.
func (m models) Ask(ctx context.Context, q evaluation.Question) (evaluation.Answer, error) {
	c := &question{Question: q}
	err := m.serve.Predict(ctx, c)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return c.answer, err
}

// question is a serve.Codec of tensors that are decoded already.
type question struct {
	evaluation.Question
	answer evaluation.Answer
}

// Target implements serve.Codec.
func (q *question) Target() (model, version string) { return q.Model, q.Version.Number }

// Decode implements serve.Codec.
func (q *question) Decode(_ context.Context, v *serve.Version, req *serve.Request) error {
	if v.SHA256 != q.Version.Digest {
		return evaluation.Other(q.Version)
	}
	req.Inputs = append(req.Inputs, q.Inputs...)
	req.Class, req.Tenant, req.Unlogged = batcher.Bulk, q.Tenant, true
	return nil
}

// Encode implements serve.Codec.
func (q *question) Encode(_ context.Context, _ *serve.Version, resp *serve.Response) error {
	for _, o := range resp.Outputs {
		q.answer.Outputs = append(q.answer.Outputs, tensor.Tensor{Name: o.Name, Datatype: o.Datatype, Shape: slices.Clone(o.Shape), Data: bytes.Clone(o.Data)})
	}
	u := resp.Use
	q.answer.Took = resp.Timing.Infer
	q.answer.Used.Rows, q.answer.Used.ComputeUS, q.answer.Used.InputBytes, q.answer.Used.OutputBytes = int64(u.Rows), u.Compute.Microseconds(), u.InputBytes, u.OutputBytes
	return nil
}
