package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
)

type createIn struct {
	api.Headers
	Model       string `path:"model" maxLength:"300" doc:"The model: name, name:version or name@label."`
	Prefer      string `header:"Prefer" maxLength:"100" doc:"respond-async, or wait=N with 1 to 60 seconds (RFC 7240)."`
	InferenceID string `header:"Inference-Id" maxLength:"255" doc:"A name of the client's own, where the body has no client_ref."`
	CancelAfter string `header:"Cancel-After" maxLength:"20" doc:"The time after which the prediction is wanted no more if it has not ended: 30s, 5m. A durable one expires then."`
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
	Arm          string `header:"Experiment-Arm"`
	Fallback     string `header:"Sluice-Fallback"`
	Timing       string `header:"Server-Timing"`
	Body         Prediction
}

// maxCancelAfter is how far away a deadline may be.
const maxCancelAfter = 24 * time.Hour

func (a *API) create(ctx context.Context, prefix string, in *createIn) (*out, error) {
	began := time.Now()
	wait, async, err := oip.Preference(in.Header().Values("Prefer"))
	if err != nil {
		return nil, err
	}
	until, err := deadline(in.Body.Deadline, in.CancelAfter, began)
	if err != nil {
		return nil, err
	}
	in.Body.ClientRef = cmp.Or(in.Body.ClientRef, in.InferenceID)
	model, version := target(in.Model)
	v, err := a.models.Lookup(model, version)
	if err != nil {
		return nil, err
	}
	release, err := a.fetch(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	defer release()
	question, err := question(v, &in.Body)
	if err != nil {
		return nil, err
	}
	if !async {
		return a.predict(ctx, prefix, began, until, oip.Question{Model: model, Version: version, Body: question, ClientRef: in.Body.ClientRef, Header: in.Header()})
	}
	if err := durable(v); err != nil {
		return nil, err
	}
	return a.submit(ctx, prefix, job.Submit{Model: model, Version: version, Arm: a.arm(ctx, model, version, in.Header()), ClientRef: in.Body.ClientRef, Deadline: until, Priority: job.Priority(in.Body.Priority)}, question, wait)
}

// durable says why a version answers no durable predictions.
func durable(v *version) error {
	if v.Stateful() || v.Generative() {
		return fault.New(fault.Unsupported, "model '%s' answers step by step, which a durable prediction does not: leave Prefer out, or use a stream", v.Name).WithCode("stream_needed")
	}
	if v.NeedsHeaders() {
		return fault.New(fault.Unsupported, "model '%s' finds the entity of its features in a header, which a durable prediction does not keep: have the model take it as an input, or send the features yourself", v.Name).WithCode("entity_missing")
	}
	return nil
}

// predict answers at once.
func (a *API) predict(ctx context.Context, prefix string, began, until time.Time, q oip.Question) (*out, error) {
	p, _ := access.From(ctx)
	q.Tenant = p.Tenant
	if passed(until, began) {
		return nil, errPassed
	}
	ctx, cancel := wanted(withoutDeadline{ctx}, until)
	defer cancel()
	answered, err := oip.Answer(ctx, a.models, a.memory, q)
	if err != nil {
		return nil, err
	}
	t := answered.Timing
	o := &out{Status: http.StatusOK, ModelVersion: answered.Version, Body: Prediction{Object: "prediction", Status: string(job.Succeeded), Model: answered.Model,
		Version: answered.Version, Digest: answered.SHA256, Arm: answered.Arm, Fallback: answered.Fallback, InputDigest: digest(q.Body), ClientRef: q.ClientRef,
		CreatedAt: at(began), StartedAt: at(began.Add(t.Decode + t.Queue)), CompletedAt: at(time.Now()), DeadlineAt: at(until)}, Arm: answered.Arm, Fallback: answered.Fallback}
	if !answered.Prediction.IsZero() {
		o.PredictionID = answered.Prediction.String()
		o.Body.ID = o.PredictionID
		o.Body.URLs = &URLs{Feedback: a.feedback(prefix)}
	}
	o.Body.Metrics = &Metrics{BatchMS: ms(t.Queue), InferMS: ms(t.Infer), BatchSize: t.BatchRows}
	o.Timing = o.Body.Metrics.timing()
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
func (a *API) submit(ctx context.Context, prefix string, s job.Submit, question []byte, wait time.Duration) (*out, error) {
	made, err := a.accept(ctx, s, job.Message{Body: question})
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		if made, err = a.follow(ctx, made.ID, wait); err != nil {
			return nil, err
		}
	}
	o, err := a.answer(ctx, prefix, made)
	if err == nil {
		o.Applied, o.Location = oip.Applied(wait), o.Body.URLs.Self
		if !made.Status.Final() {
			o.Status, o.RetryAfter = http.StatusAccepted, "1"
		}
	}
	return o, err
}

// accept keeps a question and its prediction. Refusals come before anything is kept. What
// an earlier attempt of the same operation has accepted, whose answer was lost, stays
// accepted.
func (a *API) accept(ctx context.Context, s job.Submit, question job.Message) (*job.Prediction, error) {
	p, _ := access.From(ctx)
	if refusal := a.refusal(p.Tenant, &s); refusal != nil {
		if made, err := a.accepted(ctx); err == nil {
			return made, nil
		}
		return nil, refusal
	}
	s.ID = newID(ctx)
	var err error
	if s.Input, err = a.payloads.Save(ctx, job.Owner{Tenant: p.Tenant, ID: s.ID}, question); err != nil {
		return nil, err
	}
	made, err := cqrs.Send(ctx, a.bus, s)
	if err != nil && !errors.Is(err, repo.ErrOutcomeUnknown) && ctx.Err() == nil {
		a.payloads.Drop(ctx, s.Input) // it was refused, or another request was first
	}
	if errors.Is(err, repo.ErrProcessed) || errors.Is(err, repo.ErrExists) { // stores differ in which they find first
		return a.accepted(ctx)
	}
	return made, err
}

// refusal says why a prediction is not accepted now.
func (a *API) refusal(tenant string, s *job.Submit) error {
	if passed(s.Deadline, time.Now()) {
		return errPassed
	}
	if err := a.admission.Admit(tenant); err != nil || a.cfg.Ward == nil {
		return err
	}
	v, err := a.models.Lookup(s.Model, cmp.Or(s.Arm.Version, s.Version))
	if err != nil {
		return err
	}
	return a.cfg.Ward.Admit(v.Name, v.Text)
}

// digest identifies a question.
func digest(question []byte) string {
	sum := sha256.Sum256(question)
	return hex.EncodeToString(sum[:])
}

func passed(deadline, now time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

var errPassed error = fault.New(fault.Unprocessable, "deadline_at has passed: the prediction would never be run").WithCode("prediction_deadline_passed")

// follow waits for the end of a prediction that the principal has made.
func (a *API) follow(ctx context.Context, id job.ID, wait time.Duration) (*job.Prediction, error) {
	return a.await(ctx, id, wait, func() (*job.Prediction, error) { return cqrs.Ask(ctx, a.bus, job.Follow{ID: id}) })
}

// newID returns the id of the prediction that a request asks for: the same one
// each time that the operation is repeated.
func newID(ctx context.Context) job.ID {
	operation, err := uuid.Parse(web.OperationID(ctx))
	if err != nil {
		operation = uuid.Must(uuid.NewV7())
	}
	return aggregate.NewID[job.ID](job.Prefix, operation)
}

// wanted returns a context that ends at a deadline, if there is one.
func wanted(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	if until.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, until)
}

// deadline returns the earlier of the two, zero where there is none.
func deadline(at *api.Time, cancelAfter string, now time.Time) (time.Time, error) {
	var d time.Time
	if at != nil {
		d = at.Time
	}
	if cancelAfter != "" {
		after, err := time.ParseDuration(cancelAfter)
		if err != nil || after <= 0 || after > maxCancelAfter {
			return d, fault.New(fault.Invalid, "Cancel-After is %q, expected a time such as 30s or 5m, of at most %s", fault.Clip(cancelAfter, 40), maxCancelAfter).WithCode("cancel_after_invalid")
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
	return &out{Status: http.StatusOK, ETag: api.ETag(p.Root.Version), ModelVersion: p.Served, PredictionID: string(p.ID), Arm: p.Arm.Name, Timing: v.Metrics.timing(), Body: v}, nil
}

// question returns what a client asks as the Open Inference Protocol's JSON.
func question(v *version, in *NewPrediction) ([]byte, error) {
	inputs := in.Inputs
	switch {
	case in.Upload != "":
		return nil, errNoUploads
	case len(inputs) > 0 && len(in.Rows) > 0, len(inputs) == 0 && len(in.Rows) == 0:
		return nil, fault.New(fault.Unprocessable, "a prediction needs either inputs or rows, or the upload that has them").WithCode("inputs_missing")
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
