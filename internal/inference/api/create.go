package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
)

type createIn struct {
	Model       string `path:"model" maxLength:"300" doc:"The model: name, name:version or name@label."`
	Prefer      string `header:"Prefer" maxLength:"100" doc:"respond-async, or wait=N with 1 to 60 seconds (RFC 7240)."`
	CancelAfter string `header:"Cancel-After" maxLength:"20" doc:"The time after which a durable prediction expires if it has not ended: 30s, 5m."`
	Body        NewPrediction
}

type out struct {
	Status       int
	ETag         string `header:"ETag"`
	Location     string `header:"Location"`
	RetryAfter   string `header:"Retry-After"`
	Applied      string `header:"Preference-Applied"`
	ModelVersion string `header:"Model-Version"`
	PredictionID string `header:"Prediction-Id"`
	Body         Prediction
}

// maxWait is how long an answer may wait for the end of a prediction.
const maxWait = time.Minute

// maxCancelAfter is how far away a deadline may be.
const maxCancelAfter = 24 * time.Hour

func (a *API) create(ctx context.Context, prefix string, in *createIn) (*out, error) {
	wait, async, err := preference(in.Prefer)
	if err != nil {
		return nil, err
	}
	model, version := target(in.Model)
	v, err := a.models.Lookup(model, version)
	if err != nil {
		return nil, err
	}
	question, err := question(v, &in.Body)
	if err != nil {
		return nil, err
	}
	if !async {
		return a.predict(ctx, model, version, question)
	}
	if v.Stateful() || v.Generative() {
		return nil, fault.New(fault.Unsupported, "model '%s' answers step by step, which a durable prediction does not: leave Prefer out, or use a stream", model).WithCode("stream_needed")
	}
	return a.submit(ctx, prefix, model, version, question, in, wait)
}

// preference reads Prefer: how long to wait for the end of a durable prediction,
// and whether it is to be durable.
func preference(text string) (wait time.Duration, async bool, err error) {
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			async = true
		case "wait":
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil || n < 1 || time.Duration(n)*time.Second > maxWait {
				return 0, false, fault.New(fault.Invalid, "Prefer: wait takes 1 to %d seconds", int(maxWait.Seconds())).WithCode("prefer_invalid")
			}
			wait, async = time.Duration(n)*time.Second, true
		}
	}
	return wait, async, nil
}

// predict answers at once.
func (a *API) predict(ctx context.Context, model, version string, question []byte) (*out, error) {
	p, _ := access.From(ctx)
	answered, err := oip.Answer(withoutDeadline{ctx}, a.models, a.memory, oip.Question{Model: model, Version: version, Body: question, Tenant: p.Tenant})
	if err != nil {
		return nil, err
	}
	o := &out{Status: http.StatusOK, ModelVersion: answered.Version, Body: Prediction{Object: "prediction", Status: string(job.Succeeded), Model: model,
		Version: answered.Version, Digest: answered.SHA256}}
	t := answered.Timing
	o.Body.Metrics = &Metrics{BatchMS: ms(t.Queue), InferMS: ms(t.Infer), BatchSize: t.BatchRows}
	o.Body.Output, err = outputs(answered.Body)
	return o, err
}

// withoutDeadline is a context without the deadline of the operation, which is no
// client's limit: the model's own applies.
type withoutDeadline struct{ context.Context } //nolint:containedctx // it is a context

// Deadline says that there is none.
func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// submit accepts a durable prediction, and waits for its end if asked to.
func (a *API) submit(ctx context.Context, prefix, model, version string, question []byte, in *createIn, wait time.Duration) (*out, error) {
	deadline, err := deadline(in, time.Now())
	if err != nil {
		return nil, err
	}
	made, err := a.accept(ctx, job.Submit{Model: model, Version: version, ClientRef: in.Body.ClientRef, Deadline: deadline}, question)
	if err != nil {
		return nil, err
	}
	applied := "respond-async"
	if wait > 0 {
		applied = "wait=" + strconv.Itoa(int(wait.Seconds()))
		id := made.ID
		follow := func() (*job.Prediction, error) { return cqrs.Ask(ctx, a.bus, job.Follow{ID: id}) }
		if made, err = a.await(ctx, id, wait, follow); err != nil {
			return nil, err
		}
	}
	o, err := a.answer(ctx, prefix, made)
	if err == nil {
		o.Applied, o.Location = applied, o.Body.URLs.Self
		if !made.Status.Final() {
			o.Status, o.RetryAfter = http.StatusAccepted, "1"
		}
	}
	return o, err
}

// accept keeps a question and the prediction that it is for. What is refused is
// refused before anything of it is kept, unless it was accepted before, and only
// the answer to that was lost.
func (a *API) accept(ctx context.Context, c job.Submit, question []byte) (*job.Prediction, error) {
	p, _ := access.From(ctx)
	if refusal := a.admission.Admit(p.Tenant); refusal != nil {
		if made, err := a.accepted(ctx); err == nil {
			return made, nil
		}
		return nil, refusal
	}
	var err error
	if c.Input, err = a.payloads.Save(ctx, p.Tenant, question); err != nil {
		return nil, err
	}
	made, err := cqrs.Send(ctx, a.bus, c)
	if errors.Is(err, repo.ErrProcessed) || errors.Is(err, repo.ErrExists) { // which a store says first is its own affair
		return a.accepted(ctx)
	}
	return made, err
}

func deadline(in *createIn, now time.Time) (time.Time, error) {
	var d time.Time
	if in.Body.Deadline != nil {
		d = in.Body.Deadline.Time
	}
	if in.CancelAfter != "" {
		after, err := time.ParseDuration(in.CancelAfter)
		if err != nil || after <= 0 || after > maxCancelAfter {
			return d, fault.New(fault.Invalid, "Cancel-After is %q, expected a time such as 30s or 5m, of at most %s", in.CancelAfter, maxCancelAfter).WithCode("cancel_after_invalid")
		}
		if first := now.Add(after); d.IsZero() || first.Before(d) {
			d = first
		}
	}
	return d, nil
}

// answer shows a prediction as it is.
func (a *API) answer(ctx context.Context, prefix string, p *job.Prediction) (*out, error) {
	v, err := a.view(ctx, prefix, p)
	if err != nil {
		return nil, err
	}
	return &out{Status: http.StatusOK, ETag: api.ETag(p.Root.Version), ModelVersion: p.Served, PredictionID: string(p.ID), Body: v}, nil
}

// question makes the Open Inference Protocol's JSON of what a client sent.
func question(v *version, in *NewPrediction) ([]byte, error) {
	inputs := in.Inputs
	switch {
	case len(inputs) > 0 && len(in.Rows) > 0, len(inputs) == 0 && len(in.Rows) == 0:
		return nil, fault.New(fault.Unprocessable, "a prediction needs either inputs or rows").WithCode("inputs_missing")
	case len(in.Rows) > 0:
		var err error
		if inputs, err = tensors(v, in.Rows); err != nil {
			return nil, err
		}
	}
	body := map[string]json.RawMessage{"inputs": inputs}
	if len(in.Outputs) > 0 {
		body["outputs"] = in.Outputs
	}
	if len(in.Parameters) > 0 {
		body["parameters"] = in.Parameters
	}
	return json.Marshal(body)
}
