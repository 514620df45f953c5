package recordhttp

import (
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/web/api"
)

type logIn struct {
	api.PageQuery
	From       string   `query:"from" maxLength:"40" doc:"The beginning (RFC 3339); a day before to without it, and without an id or client_ref."`
	To         string   `query:"to" maxLength:"40" doc:"The end, which is not part of it; now without it."`
	Model      string   `query:"model" maxLength:"255"`
	Version    string   `query:"version" maxLength:"64"`
	Experiment string   `query:"experiment" maxLength:"128"`
	Arm        string   `query:"arm" maxLength:"128"`
	Outcome    []string `query:"outcome" enum:"succeeded,failed,refused,invalid,cancelled" maxItems:"5" doc:"Any of these, separated by commas."`
	ID         string   `query:"id" maxLength:"64" doc:"That of one prediction; a durable one has an entry for each of its attempts."`
	ClientRef  string   `query:"client_ref" maxLength:"255"`
}

type logOut struct{ Body api.Page[Entry] }

// Entry is a settled prediction.
type Entry struct {
	ID           string   `json:"id"`
	Object       string   `json:"object"`
	Attempt      int      `json:"attempt,omitempty" doc:"Of a durable prediction, from 1. Also 1 where a fallback answered: attempt 0 is the refusal."`
	At           api.Time `json:"at" doc:"When it was begun."`
	Model        string   `json:"model"`
	Version      string   `json:"version"`
	Experiment   string   `json:"experiment,omitempty"`
	Arm          string   `json:"arm,omitempty"`
	ByRule       bool     `json:"by_rule,omitempty" doc:"A rule gave it its arm."`
	Mode         string   `json:"mode" enum:"online,bulk,shadow"`
	ClientRef    string   `json:"client_ref,omitempty" doc:"The client's name for it: client_ref, or the id of the Open Inference Protocol, if it has at most 255 bytes."`
	Outcome      string   `json:"outcome" enum:"succeeded,failed,refused,invalid,cancelled"`
	Code         string   `json:"code,omitempty" doc:"Of the failure; fallback where the version answered for another that was overloaded."`
	Rows         int      `json:"rows"`
	BatchRows    int      `json:"batch_rows" doc:"In the run that served it."`
	Steps        int      `json:"steps,omitempty" doc:"Answers of a generation: latency_ms is the sum of theirs, total all of it."`
	Latency      Latency  `json:"latency_ms"`
	InputDigest  string   `json:"input_digest,omitempty" doc:"SHA-256 of the inputs."`
	OutputDigest string   `json:"output_digest,omitempty" doc:"SHA-256 of the outputs."`
}

// Latency says where the time went, in milliseconds.
type Latency struct {
	Decode float64 `json:"decode"`
	Queue  float64 `json:"queue"`
	Infer  float64 `json:"infer"`
	Encode float64 `json:"encode"`
	Total  float64 `json:"total"`
}

// registerLog adds the list of entries.
func (h handler) registerLog(v *api.API) {
	op := api.Operation{ID: "list-prediction-log", Method: http.MethodGet, Path: "/prediction-log", Summary: "List logged predictions", Tags: []string{"prediction log"}, Permission: ReadLog,
		Description: "The tenant's predictions, the latest first. To choose by model, version or arm takes reading all of the time that is asked for: keep that short where there are many."}
	api.Register(v, op, h.list)
}

func (h handler) list(ctx context.Context, in *logIn) (*logOut, error) {
	tenant, err := h.tenant(ctx)
	if err != nil {
		return nil, err
	}
	q, err := in.query(tenant, time.Now())
	if err != nil {
		return nil, err
	}
	found, err := h.store.Find(ctx, q)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(found) > in.Limit {
		found = found[:in.Limit]
		next = found[in.Limit-1].Place().String()
	}
	shown := make([]Entry, len(found))
	for i := range found {
		shown[i] = show(&found[i])
	}
	return &logOut{api.NewPage(shown, next)}, nil
}

// query reads what is asked for, and one entry more, which tells whether there is
// another page.
func (in *logIn) query(tenant string, now time.Time) (q record.Query, err error) {
	q = record.Query{Filter: record.Filter{Tenant: tenant, Model: in.Model, Version: in.Version, Experiment: in.Experiment, Arm: in.Arm}, ClientRef: in.ClientRef, Limit: in.Limit + 1}
	if in.ID != "" {
		if q.ID, err = record.ParseID(in.ID); err != nil {
			return q, err
		}
	}
	if in.Cursor != "" {
		if q.After, err = record.ParsePlace(in.Cursor); err != nil {
			return q, err
		}
	}
	for _, name := range in.Outcome {
		q.Outcomes = append(q.Outcomes, record.Outcome(slices.Index(record.Outcomes(), name)))
	}
	single := in.ID != "" || in.ClientRef != ""
	if single && in.From == "" && in.To == "" {
		return q, nil
	}
	if q.From, q.To, err = span(in.From, in.To, 24*time.Hour, now); single && in.From == "" {
		q.From = time.Time{}
	}
	return q, err
}

func show(e *record.Entry) Entry {
	l := &e.Latency
	return Entry{ID: e.ID.String(), Object: "prediction_log_entry", Attempt: e.Attempt, At: api.Time{Time: e.At}, Model: e.Model, Version: e.Version, Experiment: e.Experiment, Arm: e.Arm, ByRule: e.ByRule,
		Mode: mode(e.Series()), ClientRef: e.ClientRef, Outcome: e.Outcome.String(), Code: e.Code, Rows: e.Rows, BatchRows: e.BatchRows, Steps: e.Steps,
		Latency:     Latency{millis(l.Decode), millis(l.Queue), millis(l.Infer), millis(l.Encode), millis(l.Total)},
		InputDigest: digest(e.InputDigest), OutputDigest: digest(e.OutputDigest)}
}

func digest(d record.Digest) string {
	if d == (record.Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:])
}
