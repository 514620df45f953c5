package feed

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/platform/fault"
)

func newTopic(t *testing.T, cfg TopicConfig) *Topic {
	t.Helper()
	cfg.Tenant = "t"
	topic, err := NewTopic("x", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func TestTopicEndsAndIsResumed(t *testing.T) {
	topic := newTopic(t, TopicConfig{})
	h := newTestHub(t, newMemory(), Config{})
	s := subscribe(t, h, Request{Topic: topic, Filter: Filter{Types: []string{"output"}}})
	for i := range 3 {
		if _, err := topic.Append(t.Context(), "output", "", []byte("{ \"n\": "+strconv.Itoa(i)+"\n}")); err != nil {
			t.Fatal(err)
		}
	}
	topic.End()
	topic.End()
	got := collect(t, s, 4)
	check(t, got, "1 output", "2 output", "3 output", "4 end")
	if frame := string(got[1].SSE()); frame != "id: x-2\nevent: output\ndata: {\"n\":1}\n\n" {
		t.Errorf("%q", frame)
	}
	if frame := string(got[1].Frame()); frame != `{"type":"event","id":"x-2","event":"output","data":{"n":1}}` {
		t.Errorf("%q", frame)
	}
	if _, err := s.Next(t.Context(), time.Second); !errors.Is(err, ErrEnded) {
		t.Errorf("behind the end: %v", err)
	}
	check(t, collect(t, subscribe(t, h, Request{Topic: topic, Start: after("x", 2)}), 2), "3 output", "4 end")
	check(t, collect(t, subscribe(t, h, Request{Topic: topic, Start: Start{Oldest: true}}), 4), "1 output", "2 output", "3 output", "4 end")
	if _, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "t"}, Topic: topic, Start: after("x", 4)}); !errors.Is(err, ErrEnded) {
		t.Errorf("come back behind the end: %v", err)
	}
	if _, err := topic.Append(t.Context(), "output", "", []byte("1")); fault.CodeOf(err) != "stream_ended" {
		t.Errorf("appended behind the end: %v", err)
	}
	if _, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "u"}, Topic: topic}); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant: %v", err)
	}
}

func TestBlockingTopicWaitsForItsConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic(t, TopicConfig{MaxEvents: 3, Block: true})
		h := newTestHub(t, newMemory(), Config{})
		var producer sync.WaitGroup
		producer.Go(func() {
			for range 50 {
				if _, err := topic.Append(t.Context(), "output", "", []byte("1")); err != nil {
					t.Error(err)
				}
			}
			topic.End()
		})
		synctest.Wait()
		if last := topic.ring.state().Last; last != 3 {
			t.Errorf("%d events were appended with room for 3", last)
		}
		s := subscribe(t, h, Request{Topic: topic, Start: Start{Oldest: true}})
		if _, err := h.Subscribe(t.Context(), Request{Filter: Filter{Tenant: "t"}, Topic: topic}); fault.CodeOf(err) != "stream_taken" {
			t.Errorf("a second consumer: %v", err)
		}
		for i := uint64(1); i <= 51; {
			batch := collect(t, s, 1)
			for _, e := range batch {
				if e.Cursor.Seq != i {
					t.Fatalf("got %d, want %d", e.Cursor.Seq, i)
				}
				i++
			}
			if i == 20 { // it may leave and come back
				s.Close()
				s = subscribe(t, h, Request{Topic: topic, Start: after("x", i-1)})
			}
			time.Sleep(time.Second)
		}
		producer.Wait()
		h.Close()
	})
}

// Who resumes has taken what is before its cursor, even if it never asked for more.
func TestResumingConsumerMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic(t, TopicConfig{MaxEvents: 1, Block: true})
		h := newTestHub(t, newMemory(), Config{})
		defer h.Close()
		go func() {
			for range 2 {
				if _, err := topic.Append(t.Context(), "output", "", []byte("1")); err != nil {
					t.Error(err)
				}
			}
		}()
		first := subscribe(t, h, Request{Topic: topic, Start: Start{Oldest: true}})
		check(t, collect(t, first, 1), "1 output")
		first.Close()
		check(t, collect(t, subscribe(t, h, Request{Topic: topic, Start: after("x", 1)}), 1), "2 output")
	})
}

func TestBlockedAppendEndsWithItsContext(t *testing.T) {
	topic := newTopic(t, TopicConfig{MaxEvents: 1, Block: true})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, _ = topic.Append(ctx, "output", "", []byte("1"))
	if _, err := topic.Append(ctx, "output", "", []byte("1")); !fault.Is(err, fault.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := topic.Append(t.Context(), "output", "", []byte("{")); err == nil {
		t.Error("appended what is not JSON")
	}
}

func TestWrongRequests(t *testing.T) {
	h := newTestHub(t, newMemory(), Config{})
	for name, r := range map[string]Request{
		"block":      {Filter: Filter{Tenant: "t"}, Policy: Block},
		"id only":    {Filter: Filter{Tenant: "t", Subject: "j"}},
		"long":       {Filter: Filter{Tenant: "t", Types: []string{string(make([]byte, 200))}}},
		"many types": {Filter: Filter{Tenant: "t", Types: make([]string, 40)}},
	} {
		if _, err := h.Subscribe(t.Context(), r); fault.CodeOf(err) != "feed_request_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Subscribe(t.Context(), Request{}); !fault.Is(err, fault.Internal) {
		t.Errorf("without a tenant: %v", err)
	}
	if _, err := NewHub(newMemory(), Config{Spills: -1}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a negative limit: %v", err)
	}
}

// What a consumer has no credit for is not taken: it must still be there when
// the consumer comes back.
func TestBlockingTopicKeepsWhatWasNotDelivered(t *testing.T) {
	topic := newTopic(t, TopicConfig{MaxEvents: 3, Block: true})
	h := newTestHub(t, newMemory(), Config{})
	s := subscribe(t, h, Request{Topic: topic, Credits: true})
	add := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := topic.Append(ctx, "output", "", []byte("1"))
		return err
	}
	for range 3 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	s.Grant(1, 0)
	check(t, collect(t, s, 1), "1 output")
	if batch, err := s.Next(t.Context(), time.Millisecond); len(batch) > 0 || err != nil {
		t.Fatal(words(batch), err)
	}
	if err := add(); err != nil {
		t.Errorf("no room for what was delivered: %v", err)
	}
	if err := add(); err == nil {
		t.Error("room for what was not delivered")
	}
	s.Close()
	check(t, collect(t, subscribe(t, h, Request{Topic: topic, Start: after("x", 1)}), 3), "2 output", "3 output", "4 output")
}

// The end, and why, have room where the topic is full: what was not taken yet stays.
func TestFullTopicEnds(t *testing.T) {
	for _, fails := range []bool{false, true} {
		topic := newTopic(t, TopicConfig{Block: true, MaxEvents: 2})
		h := newTestHub(t, newMemory(), Config{})
		for range 2 {
			if _, err := topic.Append(t.Context(), "output", "", []byte("1")); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"1 output", "2 output", "3 end"}
		if fails {
			topic.Fail([]byte(`{"code":"draining"}`))
			want = []string{"1 output", "2 output", "3 error", "4 end"}
		}
		topic.End()
		check(t, collect(t, subscribe(t, h, Request{Topic: topic, Start: Start{Oldest: true}}), len(want)), want...)
	}
}
