package recordhttp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

// Bounds of feedback.
const (
	maxFeedback = 16 << 20 // bytes
	maxLines    = 100_000
	maxErrors   = 1000 // in a report
)

// Labelled says what became of a label.
type Labelled struct {
	Object string `json:"object"`
	Result string `json:"result" enum:"added,replaced,unchanged"`
}

// Report says what became of many labels, line by line.
type Report struct {
	Object    string      `json:"object"`
	Lines     int         `json:"lines" doc:"That were not empty: the sum of the next four."`
	Added     int         `json:"added"`
	Replaced  int         `json:"replaced"`
	Unchanged int         `json:"unchanged"`
	Rejected  int         `json:"rejected"`
	Errors    []LineError `json:"errors" doc:"Why lines were rejected, the first thousand."`
}

// LineError says why a line was rejected.
type LineError struct {
	Line   int    `json:"line" doc:"From 1."`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// registerFeedback adds what takes labels.
func (h handler) registerFeedback(v *api.API) {
	op := api.Operation{ID: "create-feedback", Method: http.MethodPost, Path: "/feedback", Summary: "Say what turned out about predictions", Tags: []string{"prediction log"}, Permission: WriteFeedback,
		MaxBody: maxFeedback, Consumes: []string{"application/json", ndjson},
		Description: "One label as JSON, or one a line as NDJSON: `prediction_id` or `client_ref`; `label`, a number, boolean or text; `label_name` (\"label\" without it), of which a prediction has one each; " +
			"`score`, how good the prediction was, more being better, which a label that is a number or boolean is itself; `observed_at`. Labels may come late and again: the last one stays. " +
			"A label by NDJSON that is rejected keeps no other from being taken: the answer has the number of its line, and why."}
	api.RegisterRaw(v, op, func(ctx context.Context, w http.ResponseWriter, r *http.Request, _ *struct{}) error {
		answer, err := h.feedback(ctx, r)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(answer)
	})
}

const ndjson = "application/x-ndjson"

func (h handler) feedback(ctx context.Context, r *http.Request) (any, error) {
	tenant, err := h.tenant(ctx)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body) // MaxBody bounds it
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == ndjson { // or JSON: others were refused
		return h.lines(ctx, tenant, body, now)
	}
	return h.one(ctx, tenant, body, now)
}

// one takes a single label.
func (h handler) one(ctx context.Context, tenant string, body []byte, now time.Time) (*Labelled, error) {
	l, err := label(body)
	if err != nil {
		return nil, err
	}
	fits := h.fitting()
	why := fits.ask(ctx, &l)
	became, err := h.store.Label(ctx, tenant, []record.Label{l}, now)
	if err = cmp.Or(err, fits.failed); err != nil {
		return nil, err
	}
	if err := rejected(became[0], &l, *why); err != nil {
		return nil, err
	}
	return &Labelled{"feedback", became[0].String()}, nil
}

// lines takes a label of each line.
func (h handler) lines(ctx context.Context, tenant string, body []byte, now time.Time) (*Report, error) {
	if n := bytes.Count(bytes.TrimSuffix(body, []byte{'\n'}), []byte{'\n'}) + 1; n > maxLines {
		return nil, fault.New(fault.Unprocessable, "there are %d lines, at most %d are taken at once: send several requests", n, maxLines).WithCode("feedback_too_long")
	}
	report := &Report{Object: "feedback_report", Errors: []LineError{}}
	var labels []record.Label
	var numbers []int // of the labels' lines
	var whys []*error // why labels do not fit, see fitting.ask
	fits := h.fitting()
	flush := func() error {
		if len(labels) == 0 {
			return nil
		}
		became, err := h.store.Label(ctx, tenant, labels, now)
		if err = cmp.Or(err, fits.failed); err != nil {
			return err
		}
		for i, b := range became {
			report.count(numbers[i], b, rejected(b, &labels[i], *whys[i]))
		}
		labels, numbers, whys = labels[:0], numbers[:0], whys[:0]
		return nil
	}
	number := 0
	for line := range bytes.SplitSeq(body, []byte{'\n'}) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		l, err := label(line)
		if err != nil {
			report.count(number, 0, err)
			continue
		}
		whys = append(whys, fits.ask(ctx, &l))
		if labels, numbers = append(labels, l), append(numbers, number); len(labels) == record.MaxLabels {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	err := flush()
	slices.SortStableFunc(report.Errors, func(a, b LineError) int { return a.Line - b.Line }) // lines that cannot be read were counted before those of their batch
	return report, err
}

// count counts a line: as rejected where there is an err, else by what became of its label.
func (r *Report) count(line int, became record.Labelled, err error) {
	r.Lines++
	switch {
	case err != nil:
		r.Rejected++
		if len(r.Errors) < maxErrors {
			r.Errors = append(r.Errors, LineError{line, fault.CodeOf(err), fault.Of(err).Message})
		}
	case became == record.Added:
		r.Added++
	case became == record.Replaced:
		r.Replaced++
	default:
		r.Unchanged++
	}
}

// rejected returns why a label was not taken, nil where it was. unfit is why it does not fit.
func rejected(became record.Labelled, l *record.Label, unfit error) error {
	name := l.ClientRef
	if !l.ID.IsZero() {
		name = l.ID.String()
	}
	switch became {
	case record.Unknown:
		return fault.New(fault.NotFound, "no prediction %q is in the log: it was not logged, or its entry has expired; it takes about a second to appear", name).WithCode("prediction_unknown")
	case record.Unfit:
		return unfit
	case record.Ambiguous:
		return fault.New(fault.Conflict, "several predictions have the client_ref %q: name one by prediction_id", name).WithCode("client_ref_ambiguous")
	}
	return nil
}
