package queuetest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

var publishing = map[string]func(*fixture){
	"MessagesArriveAsTheyWereSent":     messagesArrive,
	"DuplicatesAreStoredOnce":          duplicates,
	"WrongMessagesAreRefused":          wrongMessages,
	"LargeMessagesAreRefused":          largeMessages,
	"NoStreamForASubject":              noStream,
	"FullStreamRefusesAndLosesNothing": fullStream,
	"FailureKeepsTheOrderOfASubject":   failureKeepsOrder,
	"EnsureBySeveralAtOnce":            ensureBySeveral,
	"EnsureRefusesContradictions":      ensureContradictions,
	"CancelledPublish":                 cancelledPublish,
}

func messagesArrive(f *fixture) {
	f.work()
	sent := queue.Message{
		ID: "evt_0:1=2+3/4~5@6", Subject: f.subject("a.b-c.D_9"), Data: []byte("\x00\xff data"),
		Header: queue.Header{queue.HeaderTraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Mixed-Case": "grüße, 世界", "lower": "x: y"},
	}
	before := time.Now().Add(-time.Minute)
	if err := f.q.Publish(f.ctx, sent, queue.Message{ID: "empty", Subject: f.subject("empty")}); err != nil {
		f.Fatal(err)
	}
	var l log
	f.consume(f.consumer(), l.record)
	f.until("two messages", func() bool { return len(l.all()) == 2 })
	for _, got := range l.all() {
		if got.Attempt != 1 || got.Sequence == 0 || got.Time.Before(before) {
			f.Errorf("attempt %d, sequence %d, time %s", got.Attempt, got.Sequence, got.Time)
		}
		want := sent
		if got.ID == "empty" {
			want = queue.Message{ID: "empty", Subject: f.subject("empty")}
		}
		want.Sequence, want.Time = got.Sequence, got.Time
		if string(got.Data) != string(want.Data) {
			f.Errorf("data %q, want %q", got.Data, want.Data)
		}
		got.Data, want.Data = nil, nil
		if diff := cmp.Diff(want, got.Message); diff != "" {
			f.Errorf("message (-sent +received):\n%s", diff)
		}
	}
}

func duplicates(f *fixture) {
	f.work()
	m := f.message("k", 1)
	for range 3 {
		if err := f.q.Publish(f.ctx, m, m, f.message("other", 1)); err != nil {
			f.Fatal(err)
		}
	}
	var l log
	f.consume(f.consumer(), l.record)
	f.publish("last", 1)
	f.until("the last message", func() bool { return len(l.ids()) == 3 })
	for id, n := range l.ids() {
		if n != 1 {
			f.Errorf("%s was delivered %d times", id, n)
		}
	}
}

func wrongMessages(f *fixture) {
	f.work()
	good := f.message("good", 1)
	for name, spoil := range map[string]func(*queue.Message){
		"no id":            func(m *queue.Message) { m.ID = "" },
		"id with a dot":    func(m *queue.Message) { m.ID = "a.b" },
		"long id":          func(m *queue.Message) { m.ID = strings.Repeat("x", queue.MaxID+1) },
		"wildcard":         func(m *queue.Message) { m.Subject = f.subject("*") },
		"empty token":      func(m *queue.Message) { m.Subject = f.subject("a..b") },
		"line end":         func(m *queue.Message) { m.Header = queue.Header{"k": "a\r\nb: c"} },
		"the server's key": func(m *queue.Message) { m.Header = queue.Header{"Nats-Msg-Id": "x"} },
		"empty key":        func(m *queue.Message) { m.Header = queue.Header{"": "x"} },
	} {
		m := f.message("bad", 1)
		spoil(&m)
		err := f.q.Publish(f.ctx, good, m)
		f.code(queue.Outcome(err, 1), fault.Invalid, "message_invalid")
		if queue.Outcome(err, 0) == nil {
			f.Errorf("%s: the rest of the batch was sent", name)
		}
	}
	m := f.message("bad", 1)
	m.Header = queue.Header{"k": strings.Repeat("x", queue.MaxHeader)}
	f.code(f.q.Publish(f.ctx, m), fault.TooLarge, "message_too_large")
	if b, err := f.q.Bounds(f.ctx, f.stream); err != nil || b.Last != 0 {
		f.Errorf("bounds %v, %v: nothing should be stored", b, err)
	}
}

func largeMessages(f *fixture) {
	f.work(func(s *queue.Stream) { s.MaxMessageBytes = 100 << 10 })
	m := f.message("k", 1)
	for _, n := range []int{130 << 10, 2 << 20} {
		m.Data = make([]byte, n)
		f.code(f.q.Publish(f.ctx, m), fault.TooLarge, "message_too_large")
	}
	m.Data = make([]byte, 100<<10)
	if err := f.q.Publish(f.ctx, m); err != nil {
		f.Errorf("at the limit: %v", err)
	}
}

func noStream(f *fixture) {
	f.code(f.q.Publish(f.ctx, f.message("k", 1)), fault.Unavailable, "queue_unavailable")
	_, err := f.q.Bounds(f.ctx, f.stream)
	f.code(err, fault.NotFound, "stream_not_found")
	_, err = f.q.Dead(f.ctx, f.stream, 0, 10)
	f.code(err, fault.NotFound, "stream_not_found")
	f.code(f.q.Consume(f.ctx, f.consumer(), nil), fault.NotFound, "stream_not_found")
}

// A full stream refuses with a typed error. Who tries again gets everything
// through, once there is room.
func fullStream(f *fixture) {
	f.work(func(s *queue.Stream) { s.MaxMessages = 50 })
	var pending []queue.Message
	for i := range 200 {
		pending = append(pending, f.message([]string{"a", "b", "c"}[i%3], i))
	}
	var l log
	refused := 0
	for end := time.Now().Add(patience); len(pending) > 0; {
		err := f.q.Publish(f.ctx, pending...)
		var rest []queue.Message
		for i, m := range pending {
			e := queue.Outcome(err, i)
			if e == nil {
				continue
			}
			rest = append(rest, m)
			if fault.CodeOf(e) == "queue_not_sent" {
				continue
			}
			refused++
			f.code(e, fault.Unavailable, "queue_full")
			if fault.Of(e).RetryAfter <= 0 {
				f.Error("a full queue does not say when to try again")
			}
		}
		if pending = rest; refused > 0 && len(l.all()) == 0 {
			f.consume(f.consumer(), l.record)
		}
		if time.Now().After(end) {
			f.Fatalf("%d messages are still refused", len(pending))
		}
	}
	if refused == 0 {
		f.Fatal("the stream was never full: the test tests nothing")
	}
	f.until("all messages", func() bool { return len(l.ids()) == 200 })
}

func failureKeepsOrder(f *fixture) {
	f.work(func(s *queue.Stream) { s.MaxMessages = 3 })
	var batch []queue.Message
	for i := range 5 {
		batch = append(batch, f.message("k", i))
	}
	err := f.q.Publish(f.ctx, batch...)
	for i := range batch {
		switch e := queue.Outcome(err, i); {
		case i < 3 && e != nil:
			f.Errorf("message %d: %v", i, e)
		case i == 3:
			f.code(e, fault.Unavailable, "queue_full")
		case i > 3:
			f.code(e, fault.Unavailable, "queue_not_sent")
		}
	}
}

func ensureBySeveral(f *fixture) {
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if err := f.q.Ensure(f.ctx, f.config()); err != nil {
				f.Errorf("Ensure: %v", err)
			}
		})
	}
	all.Wait()
	f.publish("k", 3)
	f.ensure(func(s *queue.Stream) { s.MaxMessages = 4; s.MaxAge = time.Hour })
	f.code(f.q.Publish(f.ctx, f.message("x", 1), f.message("y", 1)), fault.Unavailable, "queue_full")
}

func ensureContradictions(f *fixture) {
	f.ensure()
	f.code(f.q.Ensure(f.ctx, f.config(func(s *queue.Stream) { s.Retention = queue.Work })), fault.Conflict, "queue_config_conflict")
	for _, spoil := range []func(*queue.Stream){
		func(s *queue.Stream) { s.Name = "a.b" },
		func(s *queue.Stream) { s.Subjects = nil },
		func(s *queue.Stream) { s.Subjects = []string{"a b"} },
		func(s *queue.Stream) { s.MaxBytes = -1 },
		func(s *queue.Stream) { s.Retention, s.Discard = queue.Work, queue.Oldest },
	} {
		f.code(f.q.Ensure(f.ctx, f.config(spoil)), fault.Invalid, "queue_config_invalid")
	}
}

func cancelledPublish(f *fixture) {
	f.work()
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	f.code(f.q.Publish(ctx, f.message("k", 1)), fault.Canceled, "canceled")
}
