// Package api is the native API of inference: one resource, the prediction, made
// at once, or durably and in its own time.
//
// POST /v1/models/{model}/predictions answers like the Open Inference Protocol
// does, in milliseconds and without a trace in the store. With Prefer:
// respond-async the prediction is accepted durably and answered with 202; with
// Prefer: wait=N it is, and the answer waits up to N seconds for the end.
//
// With Accept: text/event-stream it is answered as events, one for each step of a
// generative model, which a client that was cut off can resume for a while. A
// WebSocket takes inputs and answers them in order: see Subprotocol.
//
// Limits: predictions that are made at once cannot be read again. Events and
// WebSockets live in one process: after a restart there is nothing to resume.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/inference/stream"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/access"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// Config holds the settings of the API.
type Config struct {
	MaxBody int64 // of a prediction's request; default 16 MiB
	Socket  SocketConfig
	Live    LiveConfig
	Ward    Ward    // nil lets durable predictions of every version in
	Uploads Uploads // nil takes no inputs from uploads
	// Overdue ends predictions whose deadline has passed while they waited, before
	// they are shown; nil leaves that to others.
	Overdue Overdue
	// Feedback says that there is a log, to whose predictions labels can be given.
	Feedback bool
}

// Overdue ends a prediction whose deadline has passed while it waited.
type Overdue interface {
	Settle(ctx context.Context, tenant string, id job.ID) error
}

// Ward refuses durable predictions of versions that are in quarantine.
type Ward interface {
	Admit(model, version string) error
}

// Admission refuses durable predictions where too many wait.
type Admission interface {
	Admit(tenant string) error
}

// API serves predictions.
type API struct {
	models    *stream.Models
	memory    *budget.Budget
	store     *repo.Store
	bus       *cqrs.Bus
	payloads  job.Payloads
	admission Admission
	waiting   *waiting
	lives     *lives
	sockets   sockets
	stopping  chan struct{} // closed when clients are to leave
	stop      sync.Once
	killed    context.Context //nolint:containedctx // ends when clients have had time to leave
	kill      context.CancelFunc
	cfg       Config
}

// New returns the API of the models, whose durable predictions go through the
// bus. It watches the store's commits to wake requests that wait for a prediction's end.
func New(models *stream.Models, memory *budget.Budget, store *repo.Store, bus *cqrs.Bus, payloads job.Payloads, admission Admission, cfg Config) *API {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 16 << 20
	}
	cfg.Socket = cfg.Socket.resolve()
	a := &API{models: models, memory: memory, store: store, bus: bus, payloads: payloads, admission: admission, waiting: newWaiting(), cfg: cfg,
		lives: newLives(cfg.Live), sockets: sockets{tenants: map[string]int{}}, stopping: make(chan struct{})}
	a.killed, a.kill = context.WithCancel(context.Background())
	store.Watch(a.waiting.committed)
	return a
}

// Drain tells the clients of WebSockets to leave and lets predictions that are answered as
// events finish. It returns once all have ended, or with ctx's error. Predictions that still
// run shortly before ctx ends are cancelled, so that their clients can be told.
func (a *API) Drain(ctx context.Context) error {
	a.stop.Do(func() { close(a.stopping) })
	return errors.Join(a.lives.drain(ctx), a.sockets.wait(ctx))
}

// Close ends all streams.
func (a *API) Close() {
	a.stop.Do(func() { close(a.stopping) })
	a.kill()
	a.lives.close()
	_ = a.sockets.wait(context.Background()) // they have been told to end at once
}

// Permissions declares the permissions of durable predictions, and of usage;
// models:predict, to make predictions, is declared with the models.
func Permissions() []access.Declaration {
	readers := []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}
	return []access.Declaration{
		{Permission: job.Read, About: "read durable predictions and their results", Roles: readers},
		{Permission: job.Replays, About: "give durable predictions that became dead letters a new life",
			Roles: []string{access.Operator, access.MLEngineer}},
		{Permission: usage.Read, About: "see how much the tenant has models do", Roles: readers},
		{Permission: job.ReadQuarantines, About: "see which versions of models are in quarantine", Roles: readers},
		{Permission: job.Release, About: "release versions of models from quarantine", Roles: []string{access.Operator, access.MLEngineer}},
	}
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	const later = "Send the same request again after as long as Retry-After says, with the same Idempotency-Key: nothing of it was kept."
	return []problem.Type{
		{Code: "predictions_full", Title: "Too many durable predictions wait", Fix: later},
		{Code: "tenant_predictions_full", Title: "Too many durable predictions of the tenant wait", Fix: later},
		{Code: "predictions_too_slow", Title: "Durable predictions of the tenant wait too long", Fix: later},
		{Code: "upgrade_missing", Title: "This is a WebSocket", Fix: "Open it with a WebSocket client, or POST predictions with Accept: text/event-stream."},
		{Code: "credit_invalid", Title: "credit cannot be understood", Fix: "Send credit=N with how many answers the client takes before it grants more."},
		{Code: "body_invalid", Title: "The body cannot be read", Fix: "Send one JSON object with the members that the document describes."},
		{Code: "prefer_invalid", Title: "Prefer cannot be understood", Fix: "Send Prefer: respond-async, or Prefer: wait=N with 1 to 60 seconds."},
		{Code: "prediction_deadline_passed", Title: "The deadline has passed", Fix: "Send deadline_at in the future, or leave it out."},
		{Code: "cancel_after_invalid", Title: "Cancel-After cannot be understood", Fix: "Send a time such as 30s or 5m, of at most 24h."},
		{Code: "rows_invalid", Title: "The rows do not fit the model", Fix: "Give every row each input of the model, with as many values as its shape has."},
		{Code: "inputs_ambiguous", Title: "The inputs are there twice", Fix: "Send inputs and rows in the request or in the upload, not in both; the same goes for outputs and parameters."},
		{Code: "upload_invalid", Title: "The upload's content cannot be read", Fix: "Upload one JSON object with inputs or rows, and maybe outputs and parameters."},
		{Code: "upload_unsupported", Title: "Inputs cannot come from an upload here", Fix: "Send inputs or rows."},
		{Code: "inputs_missing", Title: "There is nothing to predict from", Fix: "Send either inputs, as tensors, or rows."},
		{Code: "usage_range_invalid", Title: "The time of the report is wrong", Fix: "Send from and to as whole hours in RFC 3339, from before to, at most 400 days apart."},
		{Code: "usage_report_too_large", Title: "The report would be too large", Fix: "Ask for a shorter time, or group by less."},
		{Code: "no_output", Title: "The prediction has no output", Fix: "Wait until it has succeeded, or read its error."},
		{Code: "not_a_dead_letter", Title: "The prediction is no dead letter", Fix: "Replay only what GET /v1/predictions?dead_letter=true lists; make any other prediction anew."},
		{Code: "attempt_stalled", Title: "The model hung", Fix: "Try again; if it happens again, the model may hang, or need more time than job.max_stall."},
		{Code: "attempt_too_long", Title: "The attempt took too long", Fix: "Send less at once, or allow more with job.max_run."},
		{Code: "model_unavailable", Title: "No worker has the model any more", Fix: "Have a worker serve that version again, and replay the prediction."},
		{Code: "model_quarantined", Title: "The version of the model is in quarantine", Fix: "Ask for another version, or wait until an operator has released it: POST /v1/quarantines/{id}/release."},
		{Code: "attempts_exhausted", Title: "Every attempt ended without an outcome", Fix: "Try again; if it happens again, the model may end the workers that run it."},
	}
}

// NewPrediction is what asks for a prediction.
type NewPrediction struct {
	Inputs     json.RawMessage `json:"inputs,omitempty" doc:"Tensors, as in the Open Inference Protocol: name, datatype, shape, data."`
	Outputs    json.RawMessage `json:"outputs,omitempty" doc:"The outputs that are wanted, as in the Open Inference Protocol; all of them without it."`
	Parameters json.RawMessage `json:"parameters,omitempty" doc:"As in the Open Inference Protocol."`
	Rows       []Row           `json:"rows,omitempty" maxItems:"100000" doc:"Instead of inputs: for each row an object with the model's inputs by name."`
	Upload     string          `json:"upload,omitempty" maxLength:"64" doc:"Instead of both: the id of a completed upload, whose content is a JSON object with inputs or rows, and maybe outputs and parameters."`
	Priority   string          `json:"priority,omitempty" enum:"high,normal,low" doc:"Orders the tenant's own durable predictions while many wait; normal without it."`
	ClientRef  string          `json:"client_ref,omitempty" maxLength:"255" doc:"A name of the client's own, to find the prediction by."`
	Deadline   *api.Time       `json:"deadline_at,omitempty" doc:"When the prediction expires if it has not ended."`
}

// Row has an input's value, a number or nested lists of them, under each name.
type Row map[string]json.RawMessage

// Prediction is what is shown of one.
type Prediction struct {
	ID          string          `json:"id,omitempty" doc:"For feedback and the log; missing where there is no log and the prediction was made at once. Only durable ones can be read again."`
	Object      string          `json:"object"`
	Status      string          `json:"status" enum:"queued,running,cancelling,succeeded,failed,cancelled,expired"`
	Model       string          `json:"model"`
	Version     string          `json:"version,omitempty" doc:"Of the model that answered."`
	Digest      string          `json:"artifact_digest,omitempty" doc:"SHA-256 of that model's file."`
	Arm         string          `json:"arm,omitempty" doc:"Of the experiment or release that the prediction is in."`
	Fallback    string          `json:"fallback,omitempty" doc:"The version that refused the prediction for load, as name:version, where another has answered it."`
	InputDigest string          `json:"input_digest,omitempty" doc:"SHA-256 of what the model is asked, as it is kept: tensors, wanted outputs and parameters as compact JSON, or the body of a request of the Open Inference Protocol."`
	Output      json.RawMessage `json:"output,omitempty" doc:"The outputs, as in the Open Inference Protocol."`
	OutputURL   string          `json:"output_url,omitempty" doc:"Where the output is, if it is too large to stand here, or not JSON."`
	Error       *Failure        `json:"error,omitempty"`
	ClientRef   string          `json:"client_ref,omitempty"`
	Priority    string          `json:"priority,omitempty" enum:"high,normal,low"`
	Attempts    int             `json:"attempts,omitempty" doc:"Begun so far, since the last replay."`
	DeadLetter  bool            `json:"dead_letter,omitempty" doc:"It failed for want of attempts or of a worker, and can be replayed."`
	Replays     int             `json:"replays,omitempty"`
	CreatedAt   *api.Time       `json:"created_at,omitempty"`
	StartedAt   *api.Time       `json:"started_at" nullable:"true" doc:"When its first attempt began; null before that, and where it ended without one."`
	CompletedAt *api.Time       `json:"completed_at,omitempty"`
	DeadlineAt  *api.Time       `json:"deadline_at,omitempty"`
	ExpiresAt   *api.Time       `json:"expires_at,omitempty" doc:"When it is forgotten."`
	Metrics     *Metrics        `json:"metrics,omitempty"`
	URLs        *URLs           `json:"urls,omitempty"`
}

// Failure is why a prediction failed.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// Metrics says where the time went, in milliseconds.
type Metrics struct {
	QueueMS   float64 `json:"queue_ms"`
	BatchMS   float64 `json:"batch_ms"`
	InferMS   float64 `json:"infer_ms"`
	BatchSize int     `json:"batch_size"`
}

// timing is the value of Server-Timing (W3C), "" before a model has run.
func (m *Metrics) timing() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf("queue;dur=%.3f, batch;dur=%.3f, infer;dur=%.3f", m.QueueMS, m.BatchMS, m.InferMS)
}

// URLs are what can be done with a prediction.
type URLs struct {
	Self     string `json:"self,omitempty" doc:"Of a durable prediction, as are those that follow."`
	Stream   string `json:"stream,omitempty" doc:"Of its events."`
	Cancel   string `json:"cancel,omitempty"`
	Replay   string `json:"replay,omitempty" doc:"Of a dead letter."`
	Feedback string `json:"feedback,omitempty" doc:"Where to POST what turned out about it, with id as prediction_id; missing where there is no log."`
}

// target takes "name", "name:version" or "name@label" apart.
func target(text string) (model, version string) {
	if i := strings.LastIndexAny(text, "@:"); i > 0 {
		return text[:i], text[i+1:]
	}
	return text, ""
}

// summary shows a durable prediction without its output.
func (a *API) summary(prefix string, p *job.Prediction) Prediction {
	v := Prediction{ID: string(p.ID), Object: "prediction", Status: string(p.Status), Model: p.Model, Version: p.Served, Digest: p.Digest, Arm: p.Arm.Name, InputDigest: p.Input.SHA256, ClientRef: p.ClientRef, Priority: string(p.Urgency()),
		Attempts: p.Attempt - p.Base, DeadLetter: p.Dead(), Replays: p.Replays, CreatedAt: at(p.CreatedAt), StartedAt: at(p.StartedAt), CompletedAt: at(p.CompletedAt), DeadlineAt: at(p.Deadline), ExpiresAt: at(p.Keep)}
	self := prefix + "/predictions/" + string(p.ID)
	v.URLs = &URLs{Self: self, Stream: self + "/events", Cancel: self + "/cancel", Feedback: a.feedback(prefix)}
	if v.DeadLetter {
		v.URLs.Replay = self + "/replay"
	}
	if f := p.Failure; f != nil {
		v.Error = &Failure{f.Code, f.Message, f.Retryable}
	}
	if p.Status == job.Succeeded {
		m := p.Metrics
		v.Metrics = &Metrics{m.QueueMS, m.BatchMS, m.InferMS, m.BatchSize}
	}
	if p.Output.Object != "" || p.Output.Text != nil {
		v.OutputURL = self + "/output"
	}
	return v
}

// feedback is where labels are taken; "" where there is no log.
func (a *API) feedback(prefix string) string {
	if !a.cfg.Feedback {
		return ""
	}
	return prefix + "/feedback"
}

// view shows a durable prediction, and its output where that is small.
func (a *API) view(ctx context.Context, prefix string, p *job.Prediction) (Prediction, error) {
	v := a.summary(prefix, p)
	if p.Status != job.Succeeded || v.OutputURL != "" {
		return v, nil
	}
	text, err := a.payloads.Load(ctx, p.Output)
	if err != nil {
		return v, err
	}
	v.Output, err = outputs(text)
	return v, err
}

// outputs takes the outputs out of an answer of the Open Inference Protocol.
func outputs(answer []byte) (json.RawMessage, error) {
	list, err := bare(answer)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]json.RawMessage{"outputs": list})
}

func at(t time.Time) *api.Time {
	if t.IsZero() {
		return nil
	}
	return &api.Time{Time: t}
}

// operation describes an operation on predictions.
func operation(id, method, path, summary string, permission access.Permission) api.Operation {
	return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"predictions"}, Permission: permission}
}

// Register adds the operations.
func (a *API) Register(v *api.API) {
	create := operation("create-prediction", http.MethodPost, "/models/{model}/predictions", "Predict", job.Run)
	create.Description = "Answers at once, unless Prefer says respond-async (202, durably) or wait=N (durably, and the end if it comes within N seconds)."
	if a.cfg.Live.Feeds != nil {
		create.Description += " With Accept: text/event-stream it answers with events: start, an output for each step, metric, end; they can be resumed under the start event's urls.stream."
		create.Events = func(w http.ResponseWriter, r *http.Request, param func(string) string) error {
			return a.narrate(w, r, v.Prefix(), param("model"))
		}
	}
	create.Idempotency, create.MaxBody, create.Timeout = api.KeyOptional, a.cfg.MaxBody, oip.MaxWait+30*time.Second
	api.Register(v, create, func(ctx context.Context, in *createIn) (*out, error) { return a.create(ctx, v.Prefix(), in) })

	get := operation("get-prediction", http.MethodGet, "/predictions/{id}", "Read a durable prediction", job.Read)
	get.Timeout = oip.MaxWait + 30*time.Second
	api.Register(v, get, func(ctx context.Context, in *getIn) (*out, error) { return a.get(ctx, v.Prefix(), in) })
	api.Register(v, operation("cancel-prediction", http.MethodPost, "/predictions/{id}/cancel", "Cancel a durable prediction", job.Run),
		func(ctx context.Context, in *idIn) (*out, error) { return a.cancel(ctx, v.Prefix(), in) })
	replay := operation("replay-prediction", http.MethodPost, "/predictions/{id}/replay", "Replay a dead letter", job.Replays)
	replay.Description = "Gives a prediction that failed for want of attempts or of a worker a new life under the same id: with all attempts, and without its deadline. It is answered with 202."
	replay.Idempotency = api.KeyOptional
	api.Register(v, replay, func(ctx context.Context, in *idIn) (*out, error) { return a.replay(ctx, v.Prefix(), in) })
	api.Register(v, operation("list-predictions", http.MethodGet, "/predictions", "List durable predictions", job.Read),
		func(ctx context.Context, in *listIn) (*listOut, error) { return a.list(ctx, v.Prefix(), in) })
	output := operation("get-prediction-output", http.MethodGet, "/predictions/{id}/output", "Download a prediction's output", job.Read)
	output.Description = "The answer as the Open Inference Protocol has it: JSON, or with binary tensors where the question asked for them. Takes Range and If-Range."
	output.Produces, output.Stream = []string{"application/json", "application/octet-stream"}, true
	api.RegisterRaw(v, output, a.output)
	a.registerUsage(v)
	a.registerCosts(v)
	a.quarantines(v)
}
