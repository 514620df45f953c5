package natsqueue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue/dispatch"
)

// source hands out the messages of a durable consumer to one handler. Those of one
// consumer share a puller.
type source struct {
	puller     *puller
	repeatable bool // see queue.Consumer
}

// Next implements dispatch.Source.
func (s *source) Next(ctx context.Context) (dispatch.Leased, error) {
	m, err := s.puller.next(ctx)
	if err != nil {
		return dispatch.Leased{}, err
	}
	return s.leased(m)
}

func (s *source) leased(m *nats.Msg) (dispatch.Leased, error) {
	meta, err := m.Metadata()
	if err != nil {
		return dispatch.Leased{}, translate(err)
	}
	return dispatch.Leased{
		Message: decode(m.Subject, m.Header, m.Data, meta.Sequence.Stream, meta.Timestamp),
		Attempt: int(min(meta.NumDelivered, 1<<30)),
		Lease:   lease{q: s.puller.durable.q, reply: m.Reply, repeatable: s.repeatable},
	}, nil
}

// Close implements dispatch.Source. It gives back what is on its way.
func (s *source) Close() { s.puller.drain() }

// lease settles one delivery, by messages to the subject that came with it.
type lease struct {
	q          *Queue
	reply      string
	repeatable bool
}

// Ack implements dispatch.Lease.
func (l lease) Ack(ctx context.Context) error {
	if l.repeatable {
		return translate(l.q.conn.Publish(l.reply, []byte("+ACK")))
	}
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
