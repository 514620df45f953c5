package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

type usageIn struct {
	From    string   `query:"from" maxLength:"40" doc:"The beginning of the first hour (RFC 3339); a day before to without it."`
	To      string   `query:"to" maxLength:"40" doc:"The end of the last hour; that of the current hour without it."`
	GroupBy []string `query:"group_by" enum:"hour,day,model,version,mode" maxItems:"5" doc:"What is told apart, separated by commas; nothing without it. Hours and days are those of UTC."`
}

type usageOut struct{ Body UsageReport }

// UsageReport is what a tenant has used.
type UsageReport struct {
	Object string       `json:"object"`
	From   api.Time     `json:"from"`
	To     api.Time     `json:"to"`
	Data   []UsageGroup `json:"data" doc:"By start, model, version and mode, as far as they are told apart."`
	Total  UsageAmount  `json:"total"`
}

// UsageGroup is a part of it.
type UsageGroup struct {
	Start   *api.Time `json:"start,omitempty"`
	Model   string    `json:"model,omitempty"`
	Version string    `json:"version,omitempty" doc:"That answered or, where none did, that was asked for."`
	Mode    string    `json:"mode,omitempty" enum:"online,durable,batch,evaluation"`
	UsageAmount
}

// UsageAmount is how much it was.
type UsageAmount struct {
	Requests    int64   `json:"requests" doc:"Online requests that were answered; durable predictions, batches and evaluations that ended."`
	Succeeded   int64   `json:"succeeded"`
	Failed      int64   `json:"failed" doc:"Of the durable predictions and batches."`
	Cancelled   int64   `json:"cancelled" doc:"Of the durable predictions and batches."`
	Expired     int64   `json:"expired" doc:"Of the durable predictions and batches."`
	Rows        int64   `json:"rows" doc:"That models have answered."`
	ComputeMS   float64 `json:"compute_ms" doc:"Time of the models' runs in milliseconds, by the share of the rows."`
	InputBytes  int64   `json:"input_bytes" doc:"Of the tensors of these rows."`
	OutputBytes int64   `json:"output_bytes" doc:"Of the tensors that they were answered with."`
}

func amount(a usage.Amount) UsageAmount {
	return UsageAmount{a.Requests, a.Succeeded, a.Failed, a.Cancelled, a.Expired, a.Rows, float64(a.ComputeUS) / 1000, a.InputBytes, a.OutputBytes}
}

// usage reports what the tenant has used.
func (a *API) usage(ctx context.Context, in *usageIn) (*usageOut, error) {
	q, err := in.report(time.Now())
	if err != nil {
		return nil, err
	}
	groups, err := cqrs.Ask(ctx, a.bus, q)
	if err != nil {
		return nil, err
	}
	r := UsageReport{Object: "usage", From: api.Time{Time: q.From}, To: api.Time{Time: q.To}, Data: make([]UsageGroup, len(groups))}
	var total usage.Amount
	for i, g := range groups {
		r.Data[i] = UsageGroup{at(g.Start), g.Model, g.Version, string(g.Mode), amount(g.Amount)}
		total.Add(g.Amount)
	}
	r.Total = amount(total)
	return &usageOut{r}, nil
}

// report reads the query.
func (in *usageIn) report(now time.Time) (q usage.Report, err error) {
	q.To = now.UTC().Truncate(time.Hour).Add(time.Hour)
	if in.To != "" {
		if q.To, err = moment("to", in.To); err != nil {
			return q, err
		}
	}
	q.From = q.To.Add(-24 * time.Hour)
	if in.From != "" {
		if q.From, err = moment("from", in.From); err != nil {
			return q, err
		}
	}
	has := func(name string) bool { return slices.Contains(in.GroupBy, name) }
	q.By = usage.By{Hour: has("hour"), Day: has("day"), Model: has("model"), Version: has("version"), Mode: has("mode")}
	return q, nil
}

func moment(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fault.New(fault.Invalid, "%s is %q, expected a time such as 2026-01-31T12:00:00Z", name, fault.Clip(text, 40)).WithCode("usage_range_invalid")
	}
	return t.UTC(), nil
}

// registerUsage adds the report.
func (a *API) registerUsage(v *api.API) {
	op := api.Operation{ID: "get-usage", Method: http.MethodGet, Path: "/usage", Summary: "What the tenant has used", Tags: []string{"usage"}, Permission: usage.Read,
		Description: "Each durable prediction counts once, with its end, moments after it. Online requests are written every ten seconds; a server that is killed loses those since."}
	api.Register(v, op, a.usage)
}
