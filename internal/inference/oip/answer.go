package oip

import (
	"bytes"
	"context"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
)

// Question is an inference request that is not answered over its connection: the
// protocol's JSON, an object with inputs and perhaps outputs and parameters, or
// its binary form.
type Question struct {
	Model, Version string // an empty version leaves the choice to the routing table
	Body           []byte
	// Text is how many bytes of Body are JSON, as Inference-Header-Content-Length
	// has it; the answer has the form that is asked for. Nil is JSON that is
	// answered by JSON.
	Text   *int
	Class  batcher.Class
	Tenant string
}

// Answered is an answer, and how it came about.
type Answered struct {
	Body    []byte
	Text    *int   // how many bytes of Body are JSON, where binary tensors follow; nil for all
	Version string // that answered
	SHA256  string // of its file, hex
	Timing  serve.Timing
	Use     serve.Use
}

// Answer has a model answer a question, the same way as any request goes. What it
// takes counts in memory while it lasts. A deadline of ctx is the request's.
func Answer(ctx context.Context, models serve.Models, memory *budget.Budget, q Question) (Answered, error) {
	c := &questionCall{inferCall: newInferCall(memory.Account(), q.Model, q.Version), question: q}
	defer c.free()
	var err error
	if c.body, err = getSlab(&c.account, int64(len(q.Body))); err != nil {
		return Answered{}, err
	}
	c.body.B = append(c.body.B, q.Body...)
	if err := c.splitAt(q.Text); err != nil {
		return Answered{}, err
	}
	if err := models.Predict(ctx, c); err != nil {
		return Answered{}, c.identify(err)
	}
	a := Answered{Body: bytes.Clone(c.reply.body.B), Version: c.served, SHA256: c.sha256, Timing: c.reply.timing, Use: c.reply.use}
	if c.reply.binary {
		a.Text = new(c.reply.textSize)
	}
	return a, nil
}

// questionCall is an inferCall that notes which version answered.
type questionCall struct {
	*inferCall
	question       Question
	served, sha256 string
}

// Decode implements serve.Codec.
func (c *questionCall) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	if err := c.inferCall.Decode(ctx, v, req); err != nil {
		return err
	}
	c.served, c.sha256 = v.Text, v.SHA256
	req.Class, req.Tenant = c.question.Class, c.question.Tenant
	if deadline, ok := ctx.Deadline(); ok && req.Timeout == 0 {
		req.Timeout = max(time.Until(deadline), time.Nanosecond)
	}
	for i := range c.plan {
		c.plan[i].binary = c.plan[i].binary && c.question.Text != nil
	}
	return nil
}

var _ serve.Codec = (*questionCall)(nil)
