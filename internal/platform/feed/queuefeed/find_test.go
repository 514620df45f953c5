package queuefeed

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedtest"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
)

func TestFindsEventsByTheirID(t *testing.T) { synctest.Test(t, findsEvents) }

func findsEvents(t *testing.T) {
	q, err := memqueue.New(memqueue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ensure(t.Context(), events(0)); err != nil {
		t.Fatal(err)
	}
	id := func(i int) string { return fmt.Sprintf("evt_%012x%020x", time.Now().UnixMilli(), i) }
	var made []string
	for i := range 40 {
		m := encode(t, feedtest.Occurrence{Tenant: []string{"a", "b"}[i%2], Kind: "job", Subject: "job_1", Type: "x"})
		name := id(i)
		m = rename(t, m, name)
		if err := q.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		made = append(made, name)
		time.Sleep(time.Minute)
	}
	h, err := feed.NewHub(New(q, fixed, Config{}), feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for i, name := range made {
		start, err := feed.ParseStart(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.List(t.Context(), feed.Request{Filter: feed.Filter{Tenant: "a"}, Start: start}, 1)
		switch {
		case i%2 == 1:
			if !fault.Is(err, fault.Gone) {
				t.Errorf("another tenant's %s: %v", name, err)
			}
		case err != nil, i < 38 && (len(p.Events) != 1 || p.Events[0].ID != made[i+2]):
			t.Errorf("behind %d: %v, %v", i, p.Events, err)
		}
	}
	for _, unknown := range []string{id(99), "evt_1", "evt_000000000000" + fmt.Sprintf("%020x", 1)} {
		_, err := h.Subscribe(t.Context(), feed.Request{Filter: feed.Filter{Tenant: "a"}, Start: feed.Start{Event: unknown}})
		if !fault.Is(err, fault.Gone) {
			t.Errorf("%s: %v", unknown, err)
		}
	}
}

// rename gives a message another id, inside and out.
func rename(t *testing.T, m queue.Message, id string) queue.Message {
	t.Helper()
	old := m.ID
	m.ID = id
	data := []byte(fmt.Sprintf(`{"id":%q`, id))
	m.Data = append(data, m.Data[len(fmt.Sprintf(`{"id":%q`, old)):]...)
	return m
}
