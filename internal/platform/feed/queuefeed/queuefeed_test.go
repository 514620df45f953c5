package queuefeed

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/internal/platform/feed"
	"sluice/internal/platform/feed/feedtest"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/memqueue"
	"sluice/internal/platform/queue/natsqueue"
	"sluice/internal/platform/relay"
	"sluice/internal/platform/repo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ids atomic.Int64

// encode is an event as the relay publishes it.
func encode(t testing.TB, o feedtest.Occurrence) queue.Message {
	t.Helper()
	m, err := relay.Encode(&repo.Message{
		ID: fmt.Sprintf("evt_%d", ids.Add(1)), Key: repo.Key{Tenant: o.Tenant, Kind: o.Kind, ID: o.Subject}, Stream: repo.StreamEvents,
		Type: o.Type, Version: 1, Time: time.Now(), Actor: "usr_secret", Data: json.RawMessage(`{"n":1}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func events(keep int64) queue.Stream {
	return queue.Stream{Name: "EVENTS", Subjects: []string{repo.StreamEvents + ".>"}, Discard: queue.Oldest, MaxMessages: keep}
}

// swap is a queue that can be another one from one moment to the next.
type swap struct{ atomic.Pointer[memqueue.Queue] }

func (s *swap) remake(t testing.TB) {
	q, err := memqueue.New(memqueue.Config{})
	if err == nil {
		err = q.Ensure(t.Context(), events(feedtest.Keep))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Store(q)
}

func TestContractInMemory(t *testing.T) {
	feedtest.Run(t, func(t testing.TB) feedtest.Env {
		var q swap
		q.remake(t)
		epoch := func(context.Context) (string, error) { return fmt.Sprintf("%p", q.Load())[2:], nil }
		return feedtest.Env{
			Source: New(reader{&q}, epoch, Config{}),
			Publish: func(t testing.TB, o feedtest.Occurrence) {
				if err := q.Load().Publish(t.Context(), encode(t, o)); err != nil {
					t.Fatal(err)
				}
			},
			Remake: q.remake,
		}
	})
}

func start(t testing.TB, folder string) (*natsqueue.Queue, func()) {
	t.Helper()
	server, err := natsqueue.Start(t.Context(), folder, natsqueue.ServerConfig{Sync: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	q, err := natsqueue.Open(natsqueue.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	return q, func() {
		q.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

func fixed(context.Context) (string, error) { return "e1", nil }

func TestContractOnJetStream(t *testing.T) {
	feedtest.Run(t, func(t testing.TB) feedtest.Env {
		q, stop := start(t, t.TempDir())
		t.Cleanup(stop)
		if err := q.Ensure(t.Context(), events(feedtest.Keep)); err != nil {
			t.Fatal(err)
		}
		return feedtest.Env{Source: New(q, fixed, Config{}), Publish: func(t testing.TB, o feedtest.Occurrence) {
			if err := q.Publish(t.Context(), encode(t, o)); err != nil {
				t.Fatal(err)
			}
		}}
	})
}

// The server stops and starts again on its data: who comes back with the last
// cursor gets what follows, and nothing twice.
func TestRestartLosesNothing(t *testing.T) {
	folder := t.TempDir()
	at := feed.Start{Oldest: true}
	published, seen := 0, 0
	for range 3 {
		q, stop := start(t, folder)
		if err := q.Ensure(t.Context(), events(0)); err != nil {
			t.Fatal(err)
		}
		h, err := feed.NewHub(New(q, fixed, Config{}), feed.Config{RingEvents: 8, Lookback: 8})
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if err := q.Publish(t.Context(), encode(t, feedtest.Occurrence{Tenant: "a", Kind: "job", Subject: "job_1", Type: fmt.Sprintf("e%d", published)})); err != nil {
				t.Fatal(err)
			}
			published++
		}
		s, err := h.Subscribe(t.Context(), feed.Request{Filter: feed.Filter{Tenant: "a"}, Start: at})
		if err != nil {
			t.Fatal(err)
		}
		for stopAt := published - 10; seen < stopAt; { // the rest is for the next server
			batch, err := s.Next(t.Context(), 20*time.Second)
			if err != nil || len(batch) == 0 {
				t.Fatalf("at %d: %v", seen, err)
			}
			for _, e := range batch {
				if e.Type != fmt.Sprintf("e%d", seen) {
					t.Fatalf("got %s at %d", e.Type, seen)
				}
				seen++
				at = feed.Start{After: e.Cursor}
			}
		}
		s.Close()
		h.Close()
		stop()
	}
}

func TestWhatClientsSee(t *testing.T) {
	s := New(nil, fixed, Config{Labels: func(m *repo.Message) map[string]string { return map[string]string{"kind": m.Kind} }})
	m := encode(t, feedtest.Occurrence{Tenant: "a", Kind: "job", Subject: "job_1", Type: "job.done"})
	m.Sequence = 7
	e := s.event(t.Context(), "e1", &m)
	var env Envelope
	if err := json.Unmarshal(e.Data, &env); err != nil || env.ID != m.ID || env.Subject != "job_1" || string(env.Data) != `{"n":1}` {
		t.Errorf("%s: %v", e.Data, err)
	}
	if e.Cursor.String() != "e1-7" || e.Labels["kind"] != "job" || e.Key != "job/job_1" {
		t.Errorf("%+v", e)
	}
	if strings.Contains(string(e.SSE()), "secret") || len(e.SSE()) == 0 {
		t.Errorf("clients see %s", e.SSE())
	}
	m.Data = []byte(`{}`)
	if e := s.event(t.Context(), "e1", &m); e.Type != feed.TypeGap || e.Cursor.Seq != 7 {
		t.Errorf("what is no event became %+v", e)
	}
}

// Whatever lies in the stream, what becomes of it is one line for clients.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"id":"m","type":"a\nb","data":{}}`))
	f.Add([]byte(`{"id":"m","type":"job.done","data":{"x":"\n"},"time":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(nil, fixed, Config{})
		e := s.event(t.Context(), "e1", &queue.Message{ID: "m", Data: data, Sequence: 3})
		lines := 0
		for _, c := range e.SSE() {
			if c == '\n' {
				lines++
			}
		}
		if lines != 4 || !json.Valid(e.Data) || !json.Valid(e.Frame()) {
			t.Errorf("%q became %q", data, e.SSE())
		}
	})
}
