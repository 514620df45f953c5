package featurehttp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

const (
	ndjson  = "application/x-ndjson"
	maxBody = 16 << 20
)

// NewRow is a row that is brought.
type NewRow struct {
	Entity    string          `json:"entity"`
	EventTime *api.Time       `json:"event_time"`
	Values    json.RawMessage `json:"values"`
}

// Written says how many rows were kept.
type Written struct {
	Object string `json:"object"`
	Rows   int    `json:"rows"`
}

type rowsIn struct {
	View string `path:"view" maxLength:"64"`
}

// registerRows adds what takes rows.
func (h handler) registerRows(v *api.API) {
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		op := api.Operation{ID: map[string]string{http.MethodPut: "put", http.MethodPost: "post"}[method] + "-feature-rows", Method: method, Path: "/features/{view}/rows", Summary: "Bring rows of features",
			Tags: []string{"features"}, Permission: Write, MaxBody: maxBody, Consumes: []string{"application/json", ndjson},
			Description: "As JSON, an object with a list of `rows`, or one a line as NDJSON, at most 10,000: `entity`, `event_time` and `values` by the names of features. A row says all that the view has of the entity from the event time on; " +
				"what it leaves out is missing. Another row of the same entity and event time corrects it from when it is written on. All rows are kept, or none where one is wrong; to send them again changes no answer."}
		api.RegisterRaw(v, op, func(ctx context.Context, w http.ResponseWriter, r *http.Request, in *rowsIn) error {
			n, err := h.take(ctx, r, in.View)
			if err != nil {
				return err
			}
			w.Header().Set("Content-Type", "application/json")
			return json.NewEncoder(w).Encode(Written{"feature_rows", n})
		})
	}
}

// take keeps the rows of a body.
func (h handler) take(ctx context.Context, r *http.Request, view string) (int, error) {
	body, err := io.ReadAll(r.Body) // MaxBody bounds it
	if err != nil {
		return 0, err
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	rows, lines, err := parse(body, kind == ndjson)
	if err != nil {
		return 0, err
	}
	n, err := cqrs.Send(ctx, h.bus, ingest{view: view, rows: rows})
	if i := rowOf(err); i >= 0 {
		return 0, at(lines[i], err)
	}
	return n, err
}

// parse reads rows, and the place of each: its line, or its index from 0.
func parse(body []byte, lined bool) (rows []feature.Row, places []string, err error) {
	var parts []json.RawMessage
	if lined {
		number := 0
		for line := range bytes.SplitSeq(body, []byte{'\n'}) {
			number++
			if line = bytes.TrimSpace(line); len(line) > 0 {
				parts, places = append(parts, line), append(places, "line "+strconv.Itoa(number))
			}
			if len(parts) > feature.MaxRows {
				return nil, nil, errTooMany
			}
		}
	} else {
		var in struct {
			Rows []json.RawMessage `json:"rows"`
		}
		if err := strict(body, &in); err != nil {
			return nil, nil, err
		}
		for parts = in.Rows; len(places) < len(parts); {
			places = append(places, "row "+strconv.Itoa(len(places)))
		}
	}
	if len(parts) > feature.MaxRows {
		return nil, nil, errTooMany
	}
	for i, p := range parts {
		r, err := row(p)
		if err != nil {
			return nil, nil, at(places[i], err)
		}
		rows = append(rows, r)
	}
	return rows, places, nil
}

var errTooMany = fault.New(fault.Unprocessable, "there are more than %d rows: send several requests", feature.MaxRows).WithCode("feature_rows_too_many")

func row(text []byte) (feature.Row, error) {
	var in NewRow
	if err := strict(text, &in); err != nil {
		return feature.Row{}, err
	}
	if in.EventTime == nil {
		return feature.Row{}, fault.New(fault.Unprocessable, "event_time is missing").WithCode("feature_row_invalid")
	}
	return feature.Row{Entity: in.Entity, EventTime: in.EventTime.UTC().Truncate(time.Microsecond), Values: in.Values}, nil
}

// strict reads JSON without members that it does not know.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fault.New(fault.Unprocessable, "expected an object with entity, event_time and values: %s", err).WithCode("feature_row_invalid")
	}
	return nil
}

// at says where something is wrong.
func at(place string, err error) error {
	e := *fault.Of(err)
	e.Message = place + ": " + e.Message
	return &e
}
