// Package evaluationhttp has evaluations as a resource of the native API.
package evaluationhttp

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"sluice/internal/inference/evaluation"
	"sluice/internal/platform/access"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/download"
	"sluice/internal/platform/web/problem"
)

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	again := "Evaluate again."
	return []problem.Type{
		{Code: "evaluation_invalid", Title: "The evaluation makes no sense", Fix: "Change what the details say."},
		{Code: "evaluation_needs_log", Title: "There is no prediction log to ask again", Fix: "Start the server with a record.url that all its processes share, or evaluate an upload."},
		{Code: "evaluation_quota", Title: "The tenant has as many evaluations as it may", Fix: "Wait for one to end, or delete some that are not needed."},
		{Code: "evaluation_incomplete", Title: "The evaluation has not ended", Fix: "Wait until its status is completed, or for the event evaluation.completed."},
		{Code: "evaluation_no_diff", Title: "The evaluation has no differences to download", Fix: again},
		{Code: "evaluation_version_changed", Title: "A version is not the one that was chosen", Fix: again},
		{Code: "evaluation_timeout", Title: "The evaluation took longer than it may", Fix: "Ask for fewer rows by max_rows or sample, or raise max_time."},
		{Code: "evaluation_diff_too_large", Title: "The differences are too large", Fix: "Ask for fewer rows by max_rows or sample."},
	}
}

type startIn struct {
	Model string `path:"model" maxLength:"255"`
	Body  NewEvaluation
}

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type diffIn struct {
	ID     string `path:"id" maxLength:"64"`
	Format string `query:"format" enum:"jsonl,csv" doc:"Of the file; by Accept where left out."`
}

type listIn struct {
	api.PageQuery
	api.OrderQuery
	Status string `query:"status" enum:"queued,running,completed,failed,cancelled"`
	Model  string `query:"model" maxLength:"255"`
}

type listOut struct{ Body api.Page[Evaluation] }

type out struct {
	Status     int
	Location   string `header:"Location"`
	RetryAfter string `header:"Retry-After"`
	Body       Evaluation
}

// CSV writes the differences of an evaluation, whose lines are those of its file, as CSV.
type CSV func(out io.Writer, x *evaluation.Evaluation, lines io.Reader) error

// edge serves evaluations.
type edge struct {
	service *evaluation.Service
	prefix  string
	csv     CSV
}

// Register adds the operations on evaluations to the API.
func Register(a *api.API, s *evaluation.Service, table CSV) {
	e := &edge{s, a.Prefix(), table}
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"evaluations"}, Permission: permission}
	}
	start := op("start-evaluation", http.MethodPost, "/models/{model}/evaluations", "Have a version answer again what was asked before", evaluation.Write)
	start.Description = "In the background, as work that waits for spare rows of online requests' runs; nothing is routed to the candidate, and the prediction log takes no note. " +
		"Predictions of the log need the permission prediction_log:content, too."
	start.Status, start.Idempotency = http.StatusAccepted, api.KeyOptional
	api.Register(a, start, e.start)
	api.Register(a, op("get-evaluation", http.MethodGet, "/evaluations/{id}", "Read an evaluation", evaluation.Read), e.get)
	api.Register(a, op("list-evaluations", http.MethodGet, "/evaluations", "List evaluations", evaluation.Read), e.list)
	api.Register(a, op("cancel-evaluation", http.MethodPost, "/evaluations/{id}/cancel", "Cancel an evaluation", evaluation.Write), e.cancel)
	api.Register(a, op("delete-evaluation", http.MethodDelete, "/evaluations/{id}", "Delete an evaluation and its differences", evaluation.Write),
		func(ctx context.Context, in *idIn) (*struct{}, error) {
			return nil, s.Delete(ctx, evaluation.ID(in.ID))
		})
	diff := op("get-evaluation-diff", http.MethodGet, "/evaluations/{id}/diff", "Download all rows that differ", evaluation.Read)
	diff.Description = "In the order of the log or the file: which row, its segments, both answers, and how far they are apart. JSON Lines, whole or in ranges, with Repr-Digest; or, by format or Accept, CSV with the same rows, which is made " +
		"while it is sent: whole, and without a digest. The audit log has every download."
	diff.Stream, diff.Produces = true, []string{jsonl, csv}
	api.RegisterRaw(a, diff, e.diff)
}

// The media types of differences.
const (
	jsonl = "application/jsonl"
	csv   = "text/csv; charset=utf-8; header=present"
)

func (e *edge) answer(ctx context.Context, status int, x *evaluation.Evaluation) *out {
	o := &out{Status: status, Body: e.view(x, e.service.MayRead(ctx, &x.Request) == nil)}
	if !x.Final() {
		o.Location, o.RetryAfter = o.Body.URLs.Self, "2"
	}
	return o
}

func (e *edge) start(ctx context.Context, in *startIn) (*out, error) {
	c, err := in.Body.Start(in.Model, e.service.Now())
	if err != nil {
		return nil, err
	}
	x, err := e.service.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	return e.answer(ctx, http.StatusAccepted, x), nil
}

func (e *edge) get(ctx context.Context, in *idIn) (*out, error) {
	x, err := e.service.Find(ctx, evaluation.ID(in.ID))
	if err != nil {
		return nil, err
	}
	return e.answer(ctx, http.StatusOK, x), nil
}

func (e *edge) cancel(ctx context.Context, in *idIn) (*out, error) {
	x, err := e.service.Cancel(ctx, evaluation.ID(in.ID))
	if err != nil {
		return nil, err
	}
	return e.answer(ctx, http.StatusOK, x), nil
}

func (e *edge) list(ctx context.Context, in *listIn) (*listOut, error) {
	page, err := e.service.List(ctx, evaluation.List{Status: evaluation.Status(in.Status), Model: in.Model, Limit: in.Limit, After: in.Cursor, Newest: in.Descending()})
	if err != nil {
		return nil, err
	}
	views := make([]Evaluation, len(page.Items))
	for i := range page.Items {
		views[i] = e.view(&page.Items[i], false)
	}
	return &listOut{api.NewPage(views, page.Next)}, nil
}

func (e *edge) diff(ctx context.Context, w http.ResponseWriter, r *http.Request, in *diffIn) error {
	x, open, err := e.service.Differences(ctx, evaluation.ID(in.ID))
	if err != nil {
		return err
	}
	d := &x.Done.Diff
	w.Header().Set("Row-Count", strconv.FormatInt(d.Rows, 10))
	w.Header().Add("Vary", "Accept")
	if in.Format == "csv" || in.Format == "" && api.Preferred(r.Header["Accept"], []string{jsonl, csv}) == csv {
		return download.Stream(w, r, download.Content{Type: csv, FileName: string(x.ID) + "-diff.csv"}, func(to io.Writer) error {
			lines, err := open(ctx, 0, d.Bytes)
			if err != nil {
				return err
			}
			defer lines.Close()
			return e.csv(to, x, lines)
		})
	}
	return download.Serve(w, r, download.Content{Size: d.Bytes, Type: jsonl, SHA256: d.SHA256, FileName: string(x.ID) + "-diff.jsonl", Open: open})
}
