package natsqueue

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
)

// The headers that a dead letter has besides the message's own.
const (
	headerDead      = "Nats-Sluice-" // "Nats-": decode leaves them out, and publishers cannot set them
	headerCode      = headerDead + "Code"
	headerReason    = headerDead + "Reason"
	headerAttempts  = headerDead + "Attempts"
	headerSubject   = headerDead + "Subject"
	headerSequence  = headerDead + "Sequence"
	headerStoredAt  = headerDead + "Time"
	headerConsumer  = headerDead + "Consumer"
	headerFailureAt = headerDead + "Failed"
)

// bury stores a dead letter; an earlier one of the same ID makes way.
func (q *Queue) bury(ctx context.Context, d queue.DeadLetter) error {
	m := encode(d.Message)
	m.Subject = deadPrefix(d.Stream) + d.ID
	delete(m.Header, jetstream.MsgIDHeader) // burying again replaces; it must not be ignored
	for k, v := range map[string]string{
		headerID: d.Message.ID, headerCode: d.Code, headerReason: oneLine(d.Reason), headerAttempts: strconv.Itoa(d.Attempts),
		headerSubject: d.Message.Subject, headerSequence: strconv.FormatUint(d.Message.Sequence, 10), headerConsumer: d.Consumer,
		headerStoredAt: d.Message.Time.UTC().Format(time.RFC3339Nano), headerFailureAt: d.Time.UTC().Format(time.RFC3339Nano),
	} {
		m.Header[k] = []string{v}
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	_, err := q.js.PublishMsg(ctx, m)
	return settled(err)
}

// oneLine keeps a reason within its header.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// Dead implements queue.DeadLetters.
func (q *Queue) Dead(ctx context.Context, stream string, after uint64, limit int) ([]queue.DeadLetter, error) {
	s, err := q.lookup(ctx, deadStream(stream))
	if err != nil {
		return nil, err
	}
	var list []queue.DeadLetter
	for len(list) < min(max(limit, 1), 1000) {
		raw, err := s.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(deadPrefix(stream)+">"))
		if err = translate(err); err != nil {
			if fault.CodeOf(err) == "message_not_found" {
				err = nil
			}
			return list, err
		}
		after = raw.Sequence
		list = append(list, deadLetter(stream, raw))
	}
	return list, nil
}

// DeadByID implements queue.DeadLetters.
func (q *Queue) DeadByID(ctx context.Context, stream, id string) (queue.DeadLetter, error) {
	s, err := q.lookup(ctx, deadStream(stream))
	if err != nil {
		return queue.DeadLetter{}, err
	}
	raw, err := s.GetLastMsgForSubject(ctx, deadPrefix(stream)+id)
	if err = translate(err); err == nil {
		return deadLetter(stream, raw), nil
	}
	if fault.CodeOf(err) == "message_not_found" {
		err = fault.New(fault.NotFound, "stream %s has no dead letter %q", stream, fault.Clip(id, 2*queue.MaxID)).WithCode("dead_letter_not_found")
	}
	return queue.DeadLetter{}, err
}

// Replay implements queue.DeadLetters. The dead letter's sequence makes the ID
// by which duplicates are recognised: new with each death, the same when a
// replay is repeated.
func (q *Queue) Replay(ctx context.Context, stream, id string) error {
	d, err := q.DeadByID(ctx, stream, id)
	if err != nil {
		return err
	}
	m := encode(d.Message)
	m.Header[headerID] = []string{d.Message.ID}
	m.Header[jetstream.MsgIDHeader] = []string{"replay." + id + "." + strconv.FormatUint(d.Sequence, 10)}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	if _, err := q.js.PublishMsg(ctx, m); err != nil {
		return settled(err)
	}
	return q.removeDead(ctx, stream, d.Sequence)
}

// DiscardDead implements queue.DeadLetters.
func (q *Queue) DiscardDead(ctx context.Context, stream, id string) error {
	d, err := q.DeadByID(ctx, stream, id)
	if err != nil {
		return err
	}
	return q.removeDead(ctx, stream, d.Sequence)
}

// removeDead removes this dead letter; one that came after it stays.
func (q *Queue) removeDead(ctx context.Context, stream string, sequence uint64) error {
	s, err := q.lookup(ctx, deadStream(stream))
	if err != nil {
		return err
	}
	err = translate(s.DeleteMsg(ctx, sequence))
	if fault.Is(err, fault.NotFound) {
		return nil // another was quicker
	}
	return err
}

func deadLetter(stream string, raw *jetstream.RawStreamMsg) queue.DeadLetter {
	h := raw.Header
	m := decode(get(h, headerSubject), h, raw.Data, 0, time.Time{})
	m.Sequence, _ = strconv.ParseUint(get(h, headerSequence), 10, 64)
	m.Time, _ = time.Parse(time.RFC3339Nano, get(h, headerStoredAt))
	attempts, _ := strconv.Atoi(get(h, headerAttempts))
	failed, err := time.Parse(time.RFC3339Nano, get(h, headerFailureAt))
	if err != nil {
		failed = raw.Time
	}
	return queue.DeadLetter{
		ID: strings.TrimPrefix(raw.Subject, deadPrefix(stream)), Sequence: raw.Sequence, Stream: stream,
		Consumer: get(h, headerConsumer), Code: get(h, headerCode), Reason: get(h, headerReason),
		Attempts: attempts, Time: failed, Message: m,
	}
}

// get returns a header's value by its exact key.
func get(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// lookup returns the handle of a stream that exists.
func (q *Queue) lookup(ctx context.Context, name string) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	s, err := q.js.Stream(ctx, name)
	return s, settled(err)
}
