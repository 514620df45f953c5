package recordhttp

import (
	"context"
	"math"
	"net/http"

	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/web/api"
)

// Tensor is a tensor as it was kept.
type Tensor struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
	Data     []any   `json:"data" doc:"The elements in row-major order. What is not finite is a text, NaN, +Inf or -Inf; texts that are no UTF-8 are base64:…."`
}

// Content is what was kept of an attempt at a prediction.
type Content struct {
	Attempt  int      `json:"attempt,omitempty"`
	At       api.Time `json:"at"`
	Until    api.Time `json:"until" doc:"When it is forgotten."`
	Inputs   []Tensor `json:"inputs"`
	Outputs  []Tensor `json:"outputs"`
	Features []Tensor `json:"features,omitempty" doc:"Of inputs that were made of features: for each row and feature its event time in Unix milliseconds, 0 where the default was taken."`
}

type contentIn struct {
	ID string `path:"id" maxLength:"64"`
}

type contentOut struct {
	Body struct {
		Data []Content `json:"data"`
	}
}

type eraseIn struct {
	Body struct {
		PredictionIDs []string `json:"prediction_ids,omitempty" maxItems:"1000"`
		ClientRefs    []string `json:"client_refs,omitempty" maxItems:"1000"`
	}
}

type eraseOut struct {
	Body struct {
		Entries int64 `json:"entries" doc:"That were about the subject."`
	}
}

// registerContent adds what the log keeps of tensors, and its erasure.
func (h handler) registerContent(v *api.API) {
	op := api.Operation{ID: "get-prediction-content", Method: http.MethodGet, Path: "/prediction-log/{id}/content", Summary: "Read what was kept of a prediction's tensors", Tags: []string{"prediction log"}, Permission: ReadContent,
		Description: "As the policy of the model has them: sampled, and redacted. Of a durable prediction those of each attempt that answered."}
	api.Register(v, op, h.content)
	erase := api.Operation{ID: "erase-from-prediction-log", Method: http.MethodPost, Path: "/prediction-log/erasures", Summary: "Forget what the log has of a subject", Tags: []string{"prediction log"}, Permission: Erase,
		Description: "Tensors and their digests, the client's names, and the values of labels. That there was a prediction, how it ended and how good it was stays. Only the log of the server that answers is looked at: with a log on each machine, ask each. What other processes with the same log have noted in the last moments is not in it yet: where they have served the subject just now, ask again."}
	api.Register(v, erase, h.erase)
}

func (h handler) content(ctx context.Context, in *contentIn) (*contentOut, error) {
	tenant, err := h.tenant(ctx)
	if err != nil {
		return nil, err
	}
	id, err := record.ParseID(in.ID)
	if err != nil {
		return nil, err
	}
	found, err := h.store.Find(ctx, record.Query{Filter: record.Filter{Tenant: tenant}, ID: id, Content: true, Limit: record.MaxLimit})
	if err != nil {
		return nil, err
	}
	out := new(contentOut)
	for i := range found {
		if e := &found[i]; len(e.Content) > 0 {
			c, err := contentOf(e)
			if err != nil {
				return nil, err
			}
			out.Body.Data = append(out.Body.Data, c)
		}
	}
	if len(out.Body.Data) == 0 {
		return nil, fault.New(fault.NotFound, "nothing was kept of the tensors of the prediction %s, or it is forgotten", id).WithCode("content_not_found")
	}
	return out, nil
}

// contentOf shows all of an entry's content, or fails: a part of it could be taken for all.
func contentOf(e *record.Entry) (Content, error) {
	c := Content{Attempt: e.Attempt, At: api.Time{Time: e.At}, Until: api.Time{Time: e.ContentUntil}, Inputs: []Tensor{}, Outputs: []Tensor{}}
	if err := record.CheckContent(e.Content); err != nil {
		return c, fault.Wrap(fault.Internal, err, "attempt %d at the prediction %s", e.Attempt, e.ID)
	}
	for side, t := range record.Tensors(e.Content) {
		switch side {
		case record.Input:
			c.Inputs = append(c.Inputs, shown(&t))
		case record.Feature:
			c.Features = append(c.Features, shown(&t))
		default:
			c.Outputs = append(c.Outputs, shown(&t))
		}
	}
	return c, nil
}

func shown(t *tensor.Tensor) Tensor {
	return Tensor{Name: t.Name, Datatype: t.Datatype.String(), Shape: t.Shape, Data: record.Plain(t, math.MaxInt)}
}

// eraseSubject forgets what the log has of a subject.
type eraseSubject struct {
	cqrs.Returns[int64]
	about record.Subject
}

// CommandName implements cqrs.Command.
func (eraseSubject) CommandName() string { return "prediction_log.erase" }

// handleErasures adds the command to a bus. The audit log says who erased when, and not
// whose names they were. Before, sync appends what this process has not appended yet.
func handleErasures(b *cqrs.Bus, store record.Store, sync func(context.Context) error) {
	cqrs.Handle(b, Erase, func(ctx context.Context, tx *repo.Tx, c eraseSubject) (int64, error) {
		if err := sync(ctx); err != nil {
			return 0, err
		}
		return store.Erase(ctx, tx.Scope().Tenant, c.about)
	})
}

func (h handler) erase(ctx context.Context, in *eraseIn) (*eraseOut, error) {
	if _, err := h.tenant(ctx); err != nil {
		return nil, err
	}
	about := record.Subject{ClientRefs: in.Body.ClientRefs}
	for _, text := range in.Body.PredictionIDs {
		id, err := record.ParseID(text)
		if err != nil {
			return nil, err
		}
		about.IDs = append(about.IDs, id)
	}
	n, err := cqrs.Send(ctx, h.bus, eraseSubject{about: about})
	out := new(eraseOut)
	out.Body.Entries = n
	return out, err
}
