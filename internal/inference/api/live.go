package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"sluice/internal/inference/oip"
	"sluice/internal/platform/access"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed/feedhttp"
)

// started is the data of a stream's first event.
type started struct {
	ID      string            `json:"id"`
	Object  string            `json:"object"`
	Made    string            `json:"prediction_id,omitempty"` // of the log, for feedback
	Input   string            `json:"input_digest"`
	Model   string            `json:"model"`
	Version string            `json:"version"`
	Digest  string            `json:"artifact_digest"`
	URLs    map[string]string `json:"urls"`
}

// output is the data of an event with a step's outputs.
type output struct {
	Step    int             `json:"step"`
	Outputs json.RawMessage `json:"outputs"`
}

// measured is the data of the event behind the last step.
type measured struct {
	Steps int    `json:"steps"`
	Ended string `json:"ended,omitempty"`
	Metrics
}

// narrate answers a prediction as server-sent events: start, an output for each
// step, metric, and end. Nothing is sent before the first step has succeeded.
func (a *API) narrate(w http.ResponseWriter, r *http.Request, prefix, text string) error {
	p, ok := access.From(r.Context())
	if !ok {
		return access.ErrNoCredential
	}
	account := a.memory.Account()
	defer account.Release()
	in, err := readPrediction(r, &account)
	if err != nil {
		return err
	}
	until, err := deadline(in.Deadline, r.Header.Get("Cancel-After"), time.Now())
	if err != nil {
		return err
	}
	if passed(until, time.Now()) {
		return errPassed
	}
	model, version := target(text)
	v, err := a.models.Lookup(model, version)
	if err != nil {
		return err
	}
	release, err := a.fetch(r.Context(), in)
	if err != nil {
		return err
	}
	defer release()
	question, err := question(v, in)
	if err != nil {
		return err
	}
	asked := a.memory.Account() // the prediction outlives the request
	if err := asked.Acquire(int64(len(question))); err != nil {
		return err
	}
	q := oip.Question{Model: model, Version: version, Body: question, Tenant: p.Tenant, ClientRef: cmp.Or(in.ClientRef, r.Header.Get("Inference-Id")), Header: r.Header}
	o, err := a.lives.begin(r.Context(), p.Tenant, func(ctx context.Context, o *live) error {
		defer asked.Release()
		ctx, cancel := wanted(ctx, until)
		defer cancel()
		return a.relate(ctx, o, prefix, q)
	})
	if err != nil {
		asked.Release()
		return err
	}
	defer a.lives.leave(o)
	select {
	case <-o.began:
	case <-r.Context().Done():
		o.cancel()
		return fault.Of(r.Context().Err())
	}
	if o.failed != nil {
		return o.failed
	}
	return a.watch(w, r, o)
}

// readPrediction reads the body of a request, within the account's memory.
func readPrediction(r *http.Request, account *budget.Account) (*NewPrediction, error) {
	ahead := 2 * max(r.ContentLength, 0) // as it comes, and decoded
	if err := account.Acquire(ahead); err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		return nil, err
	}
	if err := account.Acquire(2*int64(body.Len()) - ahead); err != nil {
		return nil, err
	}
	in := new(NewPrediction)
	if err := decodeStrictly(body.Bytes(), in); err != nil {
		return nil, fault.New(fault.Invalid, "the body must be one JSON object of the known members: %s", fault.Clip(err.Error(), 80)).WithCode("body_invalid")
	}
	return in, nil
}

// relate has the model answer, and puts each answer on the topic.
func (a *API) relate(ctx context.Context, o *live, prefix string, q oip.Question) error {
	defer a.models.Opened("sse")()
	var total measured
	err := oip.Steps(ctx, a.models, a.memory, q, nil, func(s oip.Answered) error {
		list, err := bare(s.Body)
		if err != nil {
			return err
		}
		if total.Steps == 0 {
			if err := o.put(ctx, "start", a.started(o, prefix, &q, &s)); err != nil {
				return err
			}
			o.start() // from here on the client takes what else there is, which may need room
		}
		total.Steps++
		total.Ended = s.Step.Ended
		total.BatchMS, total.InferMS, total.BatchSize = total.BatchMS+ms(s.Timing.Queue), total.InferMS+ms(s.Timing.Infer), s.Timing.BatchRows
		return o.put(ctx, "output", output{total.Steps, list})
	})
	if err != nil {
		return err
	}
	return o.put(ctx, "metric", total)
}

// started returns the first event, which says how the first step was answered.
func (a *API) started(o *live, prefix string, q *oip.Question, s *oip.Answered) started {
	first := started{ID: o.id, Object: "stream", Model: q.Model, Version: s.Version, Digest: s.SHA256, Input: digest(q.Body),
		URLs: map[string]string{"stream": prefix + "/streams/" + o.id + "/events"}}
	if !s.Prediction.IsZero() {
		first.Made = s.Prediction.String()
		if to := a.feedback(prefix); to != "" {
			first.URLs["feedback"] = to
		}
	}
	return first
}

// watch sends the events of a topic to a client.
func (a *API) watch(w http.ResponseWriter, r *http.Request, o *live) error {
	return a.lives.cfg.Feeds.SSE(w, r, feedhttp.Target{Topic: o.topic, Oldest: true})
}

// Resume serves the events of a prediction that is answered as events to its
// client, which comes back with the id of the last event it got.
func (a *API) Resume(w http.ResponseWriter, r *http.Request, id string) error {
	p, ok := access.From(r.Context())
	if !ok {
		return access.ErrNoCredential
	}
	o, err := a.lives.come(p.Tenant, id)
	if err != nil {
		return err
	}
	defer a.lives.leave(o)
	return a.watch(w, r, o)
}
