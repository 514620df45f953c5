// Package recordhttp is the prediction log in the native API: what models did, by
// version and arm, and the entries themselves.
package recordhttp

import (
	"context"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/access"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/problem"
)

// The permissions of the prediction log.
const (
	ReadStatistics access.Permission = "statistics:read"
	ReadLog        access.Permission = "prediction_log:read"
	WriteFeedback  access.Permission = "feedback:write"
	ReadContent    access.Permission = "prediction_log:content"
	Erase          access.Permission = "prediction_log:erase"
)

// Permissions declares them. Entries may show what clients have sent, so fewer read
// them than see statistics.
func Permissions() []access.Declaration {
	return []access.Declaration{
		{Permission: ReadStatistics, About: "see how many predictions models made, how they ended and how long they took", Roles: []string{access.Viewer, access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: ReadLog, About: "read the entries of the prediction log", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: WriteFeedback, About: "say what turned out about predictions", Roles: []string{access.Operator, access.MLEngineer, access.Analyst}},
		{Permission: ReadContent, About: "read the inputs and outputs that the prediction log keeps", Roles: []string{access.MLEngineer}},
		{Permission: Erase, About: "have the prediction log forget what it has of a subject", Roles: []string{access.Operator}},
	}
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	return []problem.Type{
		{Code: "time_invalid", Title: "A time cannot be understood, or lies wrong", Fix: "Send from and to in RFC 3339, such as 2026-01-31T12:00:00Z, from before to."},
		{Code: "statistics_too_large", Title: "The statistics would be too large", Fix: "Ask for a shorter time, or group by less."},
		{Code: "feedback_invalid", Title: "The label cannot be understood", Fix: "Send prediction_id or client_ref, and label, score or both; detail says what is wrong."},
		{Code: "feedback_too_long", Title: "There are too many labels", Fix: "Send them in several requests."},
		{Code: "prediction_unknown", Title: "No such prediction is logged", Fix: "Send the id as the header Prediction-Id, or the durable prediction, has it, once the prediction is in GET /v1/prediction-log."},
		{Code: "score_out_of_range", Title: "The score is none that the experiment takes", Fix: "Send a score within a range that detail has, or give the label another name; a range is declared as allocation.range of an experiment, or quality.range of a release's step."},
		{Code: "client_ref_ambiguous", Title: "Several predictions have that client_ref", Fix: "Name one of them by prediction_id."},
		{Code: "content_not_found", Title: "Nothing was kept of the prediction's tensors", Fix: "Set the parameter sluice.log of the model; what it samples is kept for as long as it says."},
		{Code: "record_off", Title: "The server keeps no log of predictions", Fix: "Start it with another record.url than none."},
		{Code: "cursor_invalid", Title: "The cursor is none", Fix: "Send next_cursor as the page before has it, or none for the first page."},
	}
}

// handler serves the operations from a store; nil where no log is kept.
type handler struct {
	store record.Store
	bus   *cqrs.Bus
	// ranges has what experiments and releases declare of labels; nil for none.
	ranges Ranges
}

func (h handler) fitting() *fitting {
	return &fitting{ranges: h.ranges, known: map[[2]string][][2]float64{}}
}

// Register adds the operations, and the commands to a bus. Without a store they say that no
// log is kept. Scores that are in none of the ranges of their experiment are refused. What this
// process has noted is in the store once sync returns.
func Register(v *api.API, b *cqrs.Bus, store record.Store, ranges Ranges, sync func(context.Context) error) {
	h := handler{store, b, ranges}
	if store != nil {
		handleErasures(b, store, sync)
	}
	h.registerStatistics(v)
	h.registerLog(v)
	h.registerFeedback(v)
	h.registerContent(v)
}

// tenant returns whose log a request may read.
func (h handler) tenant(ctx context.Context) (string, error) {
	p, known := access.From(ctx)
	switch {
	case !known:
		return "", access.ErrNoCredential
	case h.store == nil:
		return "", fault.New(fault.Unsupported, "this server keeps no log of predictions: it was started with record.url=none").WithCode("record_off")
	}
	return p.Tenant, nil
}

// span reads a time from and to. Either may be empty; a from that is empty is so
// long before to.
func span(from, to string, long time.Duration, now time.Time) (a, b time.Time, err error) {
	if b = now.UTC(); to != "" {
		if b, err = moment("to", to); err != nil {
			return a, b, err
		}
	}
	if a = b.Add(-long); from != "" {
		if a, err = moment("from", from); err != nil {
			return a, b, err
		}
	}
	if !a.Before(b) {
		err = fault.New(fault.Invalid, "from is %s and to %s: from has to be before to", a.Format(time.RFC3339), b.Format(time.RFC3339)).WithCode("time_invalid")
	}
	return a, b, err
}

func moment(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return t, fault.New(fault.Invalid, "%s is %q, expected a time such as 2026-01-31T12:00:00Z", name, fault.Clip(text, 40)).WithCode("time_invalid")
	}
	return t.UTC(), nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
