package recordhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"

	"sluice/internal/inference/evidence"
	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// given is a label as clients write it.
type given struct {
	PredictionID string          `json:"prediction_id"`
	ClientRef    string          `json:"client_ref"`
	Name         string          `json:"label_name"`
	Label        json.RawMessage `json:"label"`
	Score        *float64        `json:"score"`
	ObservedAt   string          `json:"observed_at"`
}

// maxScore bounds scores, so that sums of their squares stay numbers.
const maxScore = 1e12

func wrong(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).WithCode("feedback_invalid")
}

// label reads and checks a label.
func label(text []byte) (l record.Label, err error) {
	var g given
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return l, wrong("the label is no JSON object of a known form: %s", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, wrong("there is more than one JSON object: send one a line, as %s", ndjson)
	}
	l = record.Label{ClientRef: g.ClientRef, Name: g.Name, Score: g.Score}
	if l.Name == "" {
		l.Name = evidence.DefaultLabel
	}
	switch {
	case (g.PredictionID == "") == (g.ClientRef == ""):
		return l, wrong("a label is about one prediction: send prediction_id or client_ref")
	case len(g.ClientRef) > record.MaxClientRef:
		return l, wrong("client_ref has %d bytes, at most %d are possible", len(g.ClientRef), record.MaxClientRef)
	case len(l.Name) > record.MaxLabelName:
		return l, wrong("label_name has %d bytes, at most %d are possible", len(l.Name), record.MaxLabelName)
	case len(g.Label) > record.MaxLabelValue:
		return l, wrong("label has %d bytes, at most %d are possible", len(g.Label), record.MaxLabelValue)
	}
	if g.PredictionID != "" {
		if l.ID, err = record.ParseID(g.PredictionID); err != nil {
			return l, err
		}
		if l.ID.IsZero() {
			return l, wrong("prediction_id is %s, which names no prediction: send the id of the answer's Prediction-Id header, or client_ref", g.PredictionID)
		}
	}
	if g.ObservedAt != "" {
		if l.Observed, err = moment("observed_at", g.ObservedAt); err != nil {
			return l, err
		}
	}
	return l, value(&l, g.Label)
}

// value takes what a label says, and its score where that follows.
func value(l *record.Label, text json.RawMessage) error {
	var what any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &what); err != nil {
			return wrong("the label is no number, boolean or text: %s", err)
		}
		l.Value = text
	}
	score := math.NaN()
	switch v := what.(type) {
	case float64:
		score = v
	case bool:
		if score = 0; v {
			score = 1
		}
	case string:
	case nil:
		if l.Score == nil {
			return wrong("the label says nothing: send label, score or both")
		}
		l.Value = nil
	default:
		return wrong("the label is a list or an object; expected a number, boolean or text")
	}
	if l.Score == nil && !math.IsNaN(score) {
		l.Score = &score
	}
	if l.Score != nil && math.Abs(*l.Score) > maxScore {
		return wrong("the score is %g, expected at most %g from 0", *l.Score, maxScore)
	}
	return nil
}
