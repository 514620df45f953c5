package natsqueue

import (
	"context"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// headerID carries the message's own ID where the one that duplicates are
// recognised by is another: in replays and dead letters.
const headerID = "Sluice-Id"

// Publish implements queue.Publisher: a wave of distinct subjects at a time is
// under way at once.
func (q *Queue) Publish(ctx context.Context, messages ...queue.Message) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	err := queue.Waves(messages, func(wave []int) []error {
		errs := make([]error, len(wave))
		acks := make([]jetstream.PubAckFuture, len(wave))
		for j, i := range wave {
			acks[j], errs[j] = q.send(ctx, encode(messages[i]))
		}
		for j := range wave {
			if errs[j] == nil {
				errs[j] = q.await(ctx, acks[j])
			}
		}
		return errs
	})
	q.cfg.Metrics.Published(len(messages), err, time.Since(began).Seconds())
	return err
}

// send starts to publish. It never sends what could not become a dead letter.
func (q *Queue) send(ctx context.Context, m *nats.Msg) (jetstream.PubAckFuture, error) {
	switch limit := q.conn.MaxPayload(); {
	case ctx.Err() != nil:
		return nil, fault.Of(ctx.Err())
	case !q.conn.IsConnected():
		return nil, disconnected(nil)
	case int64(len(m.Data)) > limit-queue.Overhead:
		return nil, fault.New(fault.TooLarge, "the message has %d bytes; the queue's server takes at most %d", len(m.Data), limit-queue.Overhead).WithCode("message_too_large")
	}
	ack, err := q.js.PublishMsgAsync(m, jetstream.WithStallWait(q.cfg.Timeout/4), jetstream.WithRetryAttempts(2))
	return ack, translate(err)
}

// await waits for the acknowledgement. Without one the outcome is unknown.
func (q *Queue) await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return translate(err)
	case <-q.closed:
		return disconnected(nats.ErrConnectionClosed)
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded {
			return disconnected(ctx.Err())
		}
		return fault.Of(ctx.Err())
	}
}

// encode makes the message that the server stores.
func encode(m queue.Message) *nats.Msg {
	h := make(nats.Header, len(m.Header)+1)
	for k, v := range m.Header {
		h[k] = []string{v}
	}
	h[jetstream.MsgIDHeader] = []string{m.ID}
	return &nats.Msg{Subject: stored(m.Subject), Header: h, Data: m.Data}
}

// decode is the inverse, for a stored message's parts.
func decode(subject string, h nats.Header, data []byte, sequence uint64, at time.Time) queue.Message {
	m := queue.Message{Subject: public(subject), Data: data, Sequence: sequence, Time: at}
	for k, v := range h {
		switch {
		case len(v) == 0:
		case k == headerID:
			m.ID = v[0]
		case k == jetstream.MsgIDHeader:
			if m.ID == "" {
				m.ID = v[0]
			}
		case !strings.HasPrefix(k, "Nats-"):
			if m.Header == nil {
				m.Header = make(queue.Header, len(h))
			}
			m.Header[k] = v[0]
		}
	}
	if m.ID == "" { // not published by us; the sequence is as lasting
		m.ID = "seq-" + strconv.FormatUint(sequence, 10)
	}
	return m
}

// stored returns the subject under which the server stores a message.
func stored(subject string) string { return lanePrefix(lane(subject)) + subject }

// public is the inverse of stored.
func public(subject string) string {
	if rest, ok := strings.CutPrefix(subject, "q."); ok {
		if _, s, ok := strings.Cut(rest, "."); ok {
			return s
		}
	}
	return subject
}

func lanePrefix(lane int) string { return "q." + strconv.Itoa(lane) + "." }

// lane returns the lane of a subject. It must never change: stored messages
// and durable consumers depend on it.
func lane(subject string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(subject))
	return int(h.Sum32() % queue.MaxLanes)
}
