package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// Lanes are part of what is stored: another hash would lose the order of what
// is there, and the consumers' positions.
func TestLanesNeverChange(t *testing.T) {
	for subject, want := range map[string]string{
		"jobs.acme.1": "q.2.jobs.acme.1", "events": "q.4.events", "a.b.c": "q.7.a.b.c",
	} {
		if got := stored(subject); got != want {
			t.Errorf("%s is stored as %s, want %s", subject, got, want)
		}
	}
	used := map[int]bool{}
	for i := range 200 {
		used[lane(fmt.Sprintf("jobs.%d", i))] = true
	}
	if len(used) != queue.MaxLanes {
		t.Errorf("200 subjects use %d of %d lanes", len(used), queue.MaxLanes)
	}
}

// Property 10: what is mapped to the wire and back is what it was, in each field.
func TestDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := queue.Message{
			ID:      rapid.StringMatching(`[A-Za-z0-9_:=+/~@-]{1,64}`).Draw(rt, "id"),
			Subject: rapid.StringMatching(`[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){0,4}`).Draw(rt, "subject"),
			Header:  rapid.MapOfN(rapid.StringMatching(`[A-Za-z0-9_-]{1,20}`), rapid.StringMatching(`[!-~ü]{0,20}`), 0, 5).Draw(rt, "header"),
			Data:    rapid.SliceOf(rapid.Byte()).Draw(rt, "data"),
		}
		if m.Validate() != nil {
			rt.Skip("a reserved key")
		}
		wire := encode(m)
		got := decode(wire.Subject, wire.Header, wire.Data, 7, time.Unix(1, 0))
		m.Sequence, m.Time = 7, time.Unix(1, 0)
		if len(m.Header) == 0 {
			m.Header = nil
		}
		if diff := cmp.Diff(m, got); diff != "" {
			rt.Errorf("(-sent +decoded):\n%s", diff)
		}
	})
}

// Whatever is found in a stream decodes to something that has an ID.
func FuzzDecode(f *testing.F) {
	f.Add("q.1.a.b", "Nats-Msg-Id", "x")
	f.Add("q.", "", "")
	f.Add("dead.S.c.m", headerSequence, "18446744073709551616")
	f.Fuzz(func(t *testing.T, subject, key, value string) {
		h := nats.Header{key: {value}, "empty": {}}
		if m := decode(subject, h, nil, 3, time.Time{}); m.ID == "" && key != jetstream.MsgIDHeader && key != headerID {
			t.Errorf("%q with %q: %q has no ID", subject, key, value)
		}
		deadLetter("S", &jetstream.RawStreamMsg{Subject: subject, Header: h})
	})
}

func TestTranslate(t *testing.T) {
	api := func(code int, n jetstream.ErrorCode, text string) error {
		return &jetstream.APIError{Code: code, ErrorCode: n, Description: text}
	}
	own := fault.New(fault.Conflict, "mine").WithCode("mine")
	for _, c := range []struct {
		err  error
		kind fault.Kind
		code string
	}{
		{api(503, errStoreFailed, "maximum bytes exceeded"), fault.Unavailable, "queue_full"},
		{api(503, errStoreFailed, "write: no space left on device"), fault.Unavailable, "queue_full"},
		{api(503, errStoreFailed, "something else"), fault.Unavailable, "queue_unavailable"},
		{api(503, errInsufficient, "insufficient resources"), fault.Unavailable, "queue_full"},
		{api(400, errNoPeers, "no suitable peers for placement, insufficient storage"), fault.Unavailable, "queue_full"},
		{api(400, errNoPeers, "no suitable peers for placement, peer offline"), fault.Unavailable, "queue_unavailable"},
		{api(500, errStorageExceeded, "x"), fault.Unavailable, "queue_full"},
		{jetstream.ErrTooManyStalledMsgs, fault.Unavailable, "queue_full"},
		{api(400, jetstream.JSErrCodeStreamMessageExceedsMaximum, "x"), fault.TooLarge, "message_too_large"},
		{nats.ErrMaxPayload, fault.TooLarge, "message_too_large"},
		{jetstream.ErrStreamNotFound, fault.NotFound, "stream_not_found"},
		{api(404, jetstream.JSErrCodeMessageNotFound, "x"), fault.NotFound, "message_not_found"},
		{fmt.Errorf("%w: no message found", jetstream.ErrMsgDeleteUnsuccessful), fault.NotFound, "message_not_found"},
		{fmt.Errorf("%w: disk", jetstream.ErrMsgDeleteUnsuccessful), fault.Unavailable, "queue_unavailable"},
		{api(400, errConfigConflict, "x"), fault.Conflict, "queue_config_conflict"},
		{api(400, errWorkOverlap, "x"), fault.Conflict, "queue_config_conflict"},
		{api(503, 10008, "temporarily unavailable"), fault.Unavailable, "queue_unavailable"},
		{api(400, 10003, "bad request"), fault.Internal, "queue_refused"},
		{nats.ErrNoResponders, fault.Unavailable, "queue_unavailable"},
		{jetstream.ErrNoStreamResponse, fault.Unavailable, "queue_unavailable"},
		{nats.ErrConnectionClosed, fault.Unavailable, "queue_unavailable"},
		{nats.ErrTimeout, fault.Unavailable, "queue_unavailable"},
		{context.Canceled, fault.Canceled, "canceled"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), fault.DeadlineExceeded, "deadline_exceeded"},
		{own, fault.Conflict, "mine"},
	} {
		got := translate(c.err)
		if !fault.Is(got, c.kind) || fault.CodeOf(got) != c.code || !errors.Is(got, c.err) {
			t.Errorf("%v becomes %v (%s, %s), want %s, %s", c.err, got, fault.Of(got).Kind, fault.CodeOf(got), c.kind, c.code)
		}
		if fault.CodeOf(got) == "queue_full" && fault.Of(got).RetryAfter <= 0 {
			t.Errorf("%v says not when to try again", got)
		}
	}
	if translate(nil) != nil {
		t.Error("no error became one")
	}
}
