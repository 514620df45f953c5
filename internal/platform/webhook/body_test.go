package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

func message(data string) *repo.Message {
	return &repo.Message{ID: "evt_1", Key: repo.Key{Tenant: "acme", Kind: "predictions", ID: "pred_1"}, Sequence: 3, Version: 2, Type: "prediction.succeeded",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.FixedZone("x", 3600)), Data: json.RawMessage(data)}
}

func TestBody(t *testing.T) {
	got, err := encodeBody(message(`{"status": "<ok>"}`))
	want := `{"type":"prediction.succeeded","timestamp":"2026-01-02T02:04:05.6Z","data":{"kind":"predictions","id":"pred_1","sequence":3,"version":2,"event":{"status":"\u003cok\u003e"}}}`
	if string(got) != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	// It is the same after the store has had it: it is signed anew each time.
	doc, err := json.Marshal(Delivery{Body: got})
	if err != nil {
		t.Fatal(err)
	}
	var d Delivery
	if err := json.Unmarshal(doc, &d); err != nil || string(d.Body) != want {
		t.Errorf("came back as %s, %v", d.Body, err)
	}
	if _, err := encodeBody(message(`{`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("no JSON: %v", err)
	}
}

// What is too large is told of without what it holds, and is below the limit.
func TestLargeEvents(t *testing.T) {
	overhead := len(`{"type":"prediction.succeeded","timestamp":"2026-01-02T02:04:05.6Z","data":{"kind":"predictions","id":"pred_1","sequence":3,"version":2,"event":""}}`)
	for size, omitted := range map[int]bool{MaxBody - overhead - 1: false, MaxBody - overhead: true, 500_000: true} {
		got, err := encodeBody(message(`"` + strings.Repeat("x", size) + `"`))
		var b Body
		if err := json.Unmarshal(got, &b); err != nil {
			t.Fatal(err)
		}
		if err != nil || len(got) >= MaxBody || b.Data.Omitted != omitted || (b.Data.Event == nil) != omitted || b.Data.Sequence != 3 || b.Data.ID != "pred_1" {
			t.Errorf("%d bytes became %d, %v", size, len(got), err)
		}
	}
}

func TestDeliveryIDs(t *testing.T) {
	// The id is in stores by now: it must never become another.
	if got := DeliveryOf("whk_1", "evt_1"); got != "whd_6e682d0bfe2e8531937d41d8bf14ab30" {
		t.Errorf("the id is %s", got)
	}
	if one := DeliveryOf("whk_1", "evt_1"); one == DeliveryOf("whk_2", "evt_1") || one == DeliveryOf("whk_1", "evt_2") {
		t.Error("ids do not follow from endpoint and event")
	}
}
