package feedhttp

import (
	"encoding/json"
	"net/http"
	"strconv"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
)

// page is the JSON form of a part of a stream.
type page struct {
	Data []json.RawMessage `json:"data"`
	// Next is always there: send it as after, now or later.
	Next string          `json:"next_cursor"`
	More bool            `json:"has_more"`
	Gap  json.RawMessage `json:"gap,omitempty"` // what is missing before the first
}

// List answers with a page of the stream behind the cursor in the parameter
// after, from the oldest that is kept without one: up to limit (1 to 500,
// default 50) events, each with its cursor.
func (h *Handler) List(w http.ResponseWriter, r *http.Request, t Target) error {
	t.Oldest, t.Open = true, true
	req, err := request(r, &t)
	if err != nil {
		return err
	}
	limit := 50
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			return fault.New(fault.Invalid, "limit %.32q is not a number", text).WithCode("feed_request_invalid")
		}
	}
	p, err := h.hub.List(r.Context(), req, limit)
	if err != nil {
		return err
	}
	out := page{Data: make([]json.RawMessage, len(p.Events)), Next: p.Next.String(), More: p.More}
	if p.Gap != nil {
		out.Gap = p.Gap.Data
	}
	for i, e := range p.Events {
		out.Data[i] = item(e)
	}
	body, err := json.Marshal(out)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the page cannot be encoded")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // fails only where the client is gone
	return nil
}

// item is an event's data with its cursor: as a member of the object that it
// is, or beside it.
func item(e *feed.Event) json.RawMessage {
	if len(e.Data) > 2 && e.Data[0] == '{' {
		return append([]byte(`{"cursor":"`+e.Cursor.String()+`",`), e.Data[1:]...)
	}
	b, _ := json.Marshal(struct { // valid JSON and strings always can be
		Cursor string          `json:"cursor"`
		Type   string          `json:"type"`
		Data   json.RawMessage `json:"data"`
	}{e.Cursor.String(), e.Type, e.Data})
	return b
}
