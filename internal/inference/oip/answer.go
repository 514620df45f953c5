package oip

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"time"

	"sluice/internal/inference/batcher"
	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
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
	// Prediction and Attempt name a durable prediction in the log; zero for a new
	// one. ClientRef is the client's name for it, where Body has none.
	Prediction record.ID
	Attempt    int
	ClientRef  string
	AsOf       time.Time   // what features are those of; zero for now
	Header     http.Header // of the request, for experiments to look at
	// Choice says which arm of an experiment the version was chosen for, where that was
	// before; zero for none.
	Choice record.Choice
}

// Answered is an answer, and how it came about.
type Answered struct {
	Body    []byte
	Text    *int   // how many bytes of Body are JSON, where binary tensors follow; nil for all
	Version string // that answered
	SHA256  string // of its file, hex
	// Prediction names the prediction in the log; zero where there is none.
	Prediction record.ID
	Timing     serve.Timing
	Use        serve.Use
	Step       serve.Step
	Arm        string // of an experiment that answered; "" for none
	Model      string // that answered
	Fallback   string // see serve.Response
}

// Answer has a model answer a question, the same way as any request goes. What it
// takes counts in memory while it lasts. A deadline of ctx is the request's.
func Answer(ctx context.Context, models serve.Models, memory *budget.Budget, q Question) (Answered, error) {
	c := &questionCall{inferCall: newInferCall(memory.Account(), q.Model, q.Version), question: q}
	c.header = q.Header
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
	a := Answered{Body: bytes.Clone(c.reply.body.B), Model: c.name, Version: c.served, Fallback: c.reply.fallback, SHA256: c.sha256, Prediction: c.reply.prediction, Timing: c.reply.timing, Use: c.reply.use, Arm: c.reply.arm}
	if c.reply.binary {
		a.Text = new(c.reply.textSize)
	}
	return a, nil
}

// Steps has a model answer a question step by step, as stream.Models.Generate
// does: emit gets each answer, whose body is valid during the call. Its error ends
// that.
func Steps(ctx context.Context, models *stream.Models, memory *budget.Budget, q Question, own *stream.Own, emit func(Answered) error) error {
	c := &questionCall{inferCall: newInferCall(memory.Account(), q.Model, q.Version), question: q, emit: emit}
	c.header = q.Header
	defer c.free()
	var err error
	if c.body, err = getSlab(&c.account, int64(len(q.Body))); err != nil {
		return err
	}
	c.body.B = append(c.body.B, q.Body...)
	c.text = c.body.B
	return c.identify(models.Generate(ctx, c, own))
}

// questionCall is an inferCall that notes which version answered.
type questionCall struct {
	*inferCall
	question             Question
	name, served, sha256 string               // of the version that answered
	emit                 func(Answered) error // takes the answers; nil keeps the one
}

// Encode implements serve.Codec.
func (c *questionCall) Encode(ctx context.Context, v *serve.Version, resp *serve.Response) error {
	c.name, c.served, c.sha256 = v.Name, v.Text, v.SHA256
	before := c.account.Held()
	if err := c.inferCall.Encode(ctx, v, resp); err != nil || c.emit == nil {
		return err
	}
	err := c.emit(Answered{Body: c.reply.body.B[:c.reply.textSize], Model: c.name, Version: c.served, SHA256: c.sha256, Fallback: resp.Fallback, Prediction: c.reply.prediction, Timing: c.reply.timing, Step: resp.Step})
	c.reply.reset()
	c.account.Return(c.account.Held() - before)
	return err
}

// Decode implements serve.Codec.
func (c *questionCall) Decode(ctx context.Context, v *serve.Version, req *serve.Request) error {
	err := c.inferCall.Decode(ctx, v, req)
	// What cannot be decoded is in the log, too: whose it is, and by which name.
	q := &c.question
	req.Class, req.Tenant, req.Prediction, req.Attempt = q.Class, q.Tenant, q.Prediction, q.Attempt
	req.AsOf = q.AsOf
	req.ID = cmp.Or(req.ID, q.ClientRef)
	if q.Choice.Experiment != "" {
		req.Choice = q.Choice
	}
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && req.Timeout == 0 {
		req.Timeout = max(time.Until(deadline), time.Nanosecond)
	}
	for i := range c.plan {
		c.plan[i].binary = c.plan[i].binary && c.question.Text != nil
	}
	return nil
}

var _ serve.Codec = (*questionCall)(nil)
