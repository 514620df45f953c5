package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue/dispatch"
)

// pullTime is how long a request for a message waits at the server. A source
// that is stopped waits for the end of its request, since that is the only way
// to know that no message is on its way, which would be leased to nobody: in a
// cluster the end of a subscription overtakes messages. Requests to a server
// in this process cost less, so that they can be shorter.
func (q *Queue) pullTime() time.Duration {
	if q.cfg.Server != nil {
		return 250 * time.Millisecond
	}
	return time.Second
}

// source pulls one message at a time from a durable consumer. The client
// library's iterators cannot be stopped without losing a message on its way.
type source struct {
	durable *durable
	inbox   *nats.Subscription // nil until it is open
	asked   time.Time          // when the open request was sent; zero without one
}

// open makes sure of the durable consumer.
func (s *source) open(ctx context.Context) error {
	if _, err := s.durable.get(ctx); err != nil || s.inbox != nil {
		return err
	}
	inbox, err := s.durable.q.conn.SubscribeSync(nats.NewInbox())
	s.inbox, s.asked = inbox, time.Time{}
	return translate(err)
}

// Next implements dispatch.Source. It asks for a message only now, so that no
// lease runs while nobody works.
func (s *source) Next(ctx context.Context) (dispatch.Leased, error) {
	if err := s.open(ctx); err != nil {
		return dispatch.Leased{}, err
	}
	for ctx.Err() == nil {
		m, err := s.pull(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.reset() // the next call begins anew, with a consumer that may have to be made again
			}
			return dispatch.Leased{}, err
		}
		if m != nil {
			return s.leased(m)
		}
	}
	return dispatch.Leased{}, ctx.Err()
}

// pull waits for a message until the request ends, which gives nil.
func (s *source) pull(ctx context.Context) (*nats.Msg, error) {
	expires := s.durable.q.pullTime()
	if s.asked.IsZero() {
		subject := "$JS.API.CONSUMER.MSG.NEXT." + s.durable.stream + "." + s.durable.cfg.Durable
		ask := fmt.Appendf(nil, `{"batch":1,"expires":%d}`, expires)
		if err := s.durable.q.conn.PublishRequest(subject, s.inbox.Subject, ask); err != nil {
			return nil, translate(err)
		}
		s.asked = time.Now()
	}
	ctx, cancel := context.WithDeadline(ctx, s.asked.Add(expires+s.durable.q.cfg.Timeout))
	defer cancel()
	m, err := s.inbox.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, disconnected(err) // the end of the request was lost with its connection
	case err != nil:
		return nil, translate(err)
	}
	s.asked = time.Time{}
	switch status := m.Header.Get("Status"); status {
	case "":
		return m, nil
	case "404", "408": // no message in time
		return nil, nil
	default: // the consumer is gone or has no leader
		return nil, fault.New(fault.Unavailable, "the queue ended a request: %s %s", status, m.Header.Get("Description")).WithCode("queue_unavailable")
	}
}

func (s *source) leased(m *nats.Msg) (dispatch.Leased, error) {
	meta, err := m.Metadata()
	if err != nil {
		return dispatch.Leased{}, translate(err)
	}
	return dispatch.Leased{
		Message: decode(m.Subject, m.Header, m.Data, meta.Sequence.Stream, meta.Timestamp),
		Attempt: int(min(meta.NumDelivered, 1<<30)),
		Lease:   lease{q: s.durable.q, reply: m.Reply},
	}, nil
}

// Close implements dispatch.Source. It gives back what is on its way.
func (s *source) Close() {
	for s.inbox != nil && !s.asked.IsZero() && s.durable.q.conn.IsConnected() {
		m, err := s.pull(context.Background())
		if err != nil {
			break
		}
		if m != nil {
			_ = lease{q: s.durable.q, reply: m.Reply}.Retry(context.Background(), time.Millisecond) // else its lease runs out
		}
	}
	s.reset()
}

// reset forgets what the source holds.
func (s *source) reset() {
	s.durable.forget()
	if s.inbox != nil {
		_ = s.inbox.Unsubscribe() // of a connection that is lost, it is gone already
		s.inbox = nil
	}
}

// lease settles one delivery, by messages to the subject that came with it.
type lease struct {
	q     *Queue
	reply string
}

// Ack implements dispatch.Lease.
func (l lease) Ack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.q.cfg.Timeout)
	defer cancel()
	_, err := l.q.conn.RequestWithContext(ctx, l.reply, []byte("+ACK"))
	return settled(err)
}

// Retry implements dispatch.Lease. That it arrives is not confirmed; if it
// does not, the lease runs out.
func (l lease) Retry(_ context.Context, delay time.Duration) error {
	delay = max(delay, time.Millisecond) // the server takes 0 for "at once", without its delay
	return translate(l.q.conn.Publish(l.reply, fmt.Appendf(nil, `-NAK {"delay":%d}`, delay)))
}

// Extend implements dispatch.Lease.
func (l lease) Extend(context.Context) error {
	return translate(l.q.conn.Publish(l.reply, []byte("+WPI")))
}

// settled is translate for requests whose time ran out here, not at the
// caller: the queue did not answer.
func settled(err error) error {
	if err != nil && fault.Is(err, fault.DeadlineExceeded) {
		return disconnected(err)
	}
	return translate(err)
}
