package feedhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
)

// ten is a source of ten events, of which two have expired.
type ten struct{}

func (ten) State(context.Context) (feed.State, error) {
	return feed.State{Epoch: "e", First: 3, Last: 10}, nil
}

func (ten) Read(_ context.Context, r feed.Read) iter.Seq2[*feed.Event, error] {
	return func(yield func(*feed.Event, error) bool) {
		for seq := r.From; seq <= 10; seq++ {
			e := &feed.Event{Cursor: feed.Cursor{Epoch: "e", Seq: seq}, Tenant: "t", Type: "a", Labels: map[string]string{"n": fmt.Sprint(seq), "of": "x"}, Data: json.RawMessage(fmt.Sprintf(`{"id":"evt_%d"}`, seq))}
			if seq%2 == 0 {
				e.Type = "b"
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestList(t *testing.T) {
	hub, err := feed.NewHub(ten{}, feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := New(hub, Config{})
	get := func(query string) (string, error) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/events?"+query, nil)
		err := h.List(w, r.WithContext(access.With(r.Context(), &access.Principal{Tenant: "t"})), Target{})
		return w.Body.String(), err
	}
	for query, want := range map[string]string{
		"limit=2":                `{"data":[{"cursor":"e-3","id":"evt_3"},{"cursor":"e-4","id":"evt_4"}],"next_cursor":"e-4","has_more":true}`,
		"after=e-9":              `{"data":[{"cursor":"e-10","id":"evt_10"}],"next_cursor":"e-10","has_more":false}`,
		"after=e-10":             `{"data":[],"next_cursor":"e-10","has_more":false}`,
		"after=e-7&types=a":      `{"data":[{"cursor":"e-9","id":"evt_9"}],"next_cursor":"e-10","has_more":false}`,
		"labels=n:9":             `{"data":[{"cursor":"e-9","id":"evt_9"}],"next_cursor":"e-10","has_more":false}`,
		"labels=n:9,of:y":        `{"data":[],"next_cursor":"e-10","has_more":false}`,
		"after=e-1&limit=1":      `{"data":[{"cursor":"e-3","id":"evt_3"}],"next_cursor":"e-3","has_more":true,"gap":{"from":"e-1","to":"e-2","reason":"expired"}}`,
		"after=old-4&types=none": `{"data":[],"next_cursor":"e-10","has_more":false,"gap":{"from":"old-4","to":"e-2","reason":"epoch_changed"}}`,
	} {
		if got, err := get(query); got != want || err != nil {
			t.Errorf("%s:\n got %s, %v\nwant %s", query, got, err, want)
		}
	}
	for query, want := range map[string]fault.Kind{"after=e-1&strict=1": fault.Gone, "labels=of": fault.Invalid, "labels=:x": fault.Invalid, "labels=n:1,n:2": fault.Invalid, "kind=*": fault.Invalid, "limit=0": fault.Invalid, "limit=501": fault.Invalid, "limit=x": fault.Invalid, "after=evt": fault.Invalid, "after=evt_1": fault.Invalid} {
		if _, err := get(query); !fault.Is(err, want) {
			t.Errorf("%s: %v", query, err)
		}
	}
}
