package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/platform/fault"
)

// pullTime is how long a request for messages waits at the server. Sources
// that are stopped wait for the end of their requests, since that is the only way
// to know that no message is on its way, which would be leased to nobody: in a
// cluster the end of a subscription overtakes messages. Requests to a server
// in this process cost less, so that they can be shorter.
func (q *Queue) pullTime() time.Duration {
	if q.cfg.Server != nil {
		return 250 * time.Millisecond
	}
	return time.Second
}

// puller asks a durable consumer for as many messages as there are sources that
// wait for one, and never for more, so that no lease runs while nobody works. The
// client library's iterators cannot be stopped without losing messages on their
// way.
//
// It has no goroutine. Whoever comes, gets a message or finds the end of a request
// asks for those that would get none: once that is half of those that wait, so that
// requests are shared where there is much to do.
type puller struct {
	durable *durable

	mu         sync.Mutex
	inbox      *nats.Subscription // nil until it is open; a new one after each failure
	waiting    int                // sources that wait
	asked      int                // messages that open requests may still bring
	until      time.Time          // when the last of them will have ended
	reconnects uint64             // of the connection when the inbox was opened

	draining sync.Mutex // one gives back what is on its way
}

// next waits for a message until ctx ends. After an error the next call begins
// anew, with a consumer that may have to be made again.
func (p *puller) next(ctx context.Context) (m *nats.Msg, err error) {
	p.mu.Lock()
	p.waiting++
	p.mu.Unlock()
	defer func() {
		if m == nil { // whom a message was handed to does not wait any more
			p.mu.Lock()
			p.waiting--
			p.mu.Unlock()
		}
	}()
	for ctx.Err() == nil {
		inbox, err := p.begin(ctx)
		if err != nil {
			return nil, err
		}
		if m, err := p.receive(ctx, inbox); m != nil || err != nil {
			return m, err
		}
	}
	return nil, ctx.Err()
}

// begin returns where messages come to, having asked for them.
func (p *puller) begin(ctx context.Context) (*nats.Subscription, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inbox == nil { // another has found it broken
		return nil, disconnected(nil)
	}
	if ctx.Err() == nil {
		if err := p.ask(); err != nil {
			return nil, err
		}
	}
	return p.inbox, nil
}

// ask asks for as many messages as sources would get none, if they are half of those
// that wait. Callers hold the lock.
func (p *puller) ask() error {
	if p.waiting == 0 || p.asked*2 > p.waiting {
		return nil
	}
	q := p.durable.q
	n, expires := p.waiting-p.asked, q.pullTime()
	subject := "$JS.API.CONSUMER.MSG.NEXT." + p.durable.stream + "." + p.durable.cfg.Durable
	if err := q.conn.PublishRequest(subject, p.inbox.Subject, fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, n, expires)); err != nil {
		p.abandon()
		return translate(err)
	}
	p.asked += n
	p.until = time.Now().Add(expires)
	return nil
}

// open makes sure of the durable consumer and the inbox.
func (p *puller) open(ctx context.Context) error {
	if _, err := p.durable.get(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The ends of requests that a lost connection took with it never come.
	reconnects := p.durable.q.conn.Stats().Reconnects
	if p.inbox != nil && p.reconnects != reconnects {
		p.abandon()
	}
	if p.inbox != nil {
		return nil
	}
	inbox, err := p.durable.q.conn.SubscribeSync(nats.NewInbox())
	if err != nil {
		return translate(err)
	}
	p.inbox, p.asked, p.reconnects = inbox, 0, reconnects
	return nil
}

// receive waits for a message or the end of a request, which gives nil.
func (p *puller) receive(ctx context.Context, inbox *nats.Subscription) (*nats.Msg, error) {
	p.mu.Lock()
	wait, cancel := context.WithDeadline(ctx, p.until.Add(p.durable.q.cfg.Timeout))
	p.mu.Unlock()
	defer cancel()
	m, err := inbox.NextMsgWithContext(wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.inbox != inbox:
		if err == nil && m.Header.Get("Status") == "" {
			p.waiting--
			return m, nil
		}
		return nil, ctx.Err() // the failure is known already
	case err == nil:
		return p.arrived(m)
	case ctx.Err() != nil:
		return nil, translate(err)
	case errors.Is(err, context.DeadlineExceeded):
		if time.Now().Before(p.until.Add(p.durable.q.cfg.Timeout)) {
			return nil, nil // others have asked meanwhile
		}
		err = disconnected(err) // the end of the request was lost with its connection
	}
	p.abandon()
	return nil, translate(err)
}

// arrived counts what came: a message, or the end of a request, which gives nil.
func (p *puller) arrived(m *nats.Msg) (*nats.Msg, error) {
	switch status := m.Header.Get("Status"); status {
	case "":
		// In one step: who has a message does not count among those that wait for one.
		p.asked, p.waiting = max(p.asked-1, 0), p.waiting-1
		_ = p.ask() // a request that is fulfilled ends without a word; where this fails, those that wait find the inbox gone
		return m, nil
	case "404", "408": // not as many messages in time
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil {
			left = p.asked
		}
		p.asked = max(p.asked-left, 0)
		return nil, nil
	default: // the consumer is gone or has no leader
		p.abandon()
		return nil, fault.New(fault.Unavailable, "the queue ended a request: %s %s", status, m.Header.Get("Description")).WithCode("queue_unavailable")
	}
}

// abandon forgets the inbox and its requests, and gives back what lies there.
func (p *puller) abandon() {
	p.durable.forget()
	if p.inbox == nil {
		return
	}
	for {
		m, err := p.inbox.NextMsg(time.Nanosecond)
		if err != nil {
			break
		}
		p.giveBack(m)
	}
	_ = p.inbox.Unsubscribe() // of a connection that is lost, it is gone already
	p.inbox, p.asked = nil, 0
}

// giveBack has a message delivered to another at once, rather than when its lease
// has run out.
func (p *puller) giveBack(m *nats.Msg) {
	if m.Header.Get("Status") == "" {
		_ = lease{q: p.durable.q, reply: m.Reply}.Retry(context.Background(), time.Millisecond)
	}
}

// drainLook is how often a puller that drains looks whether there is still something on
// its way: who leaves at the same time may have got the end of a request.
const drainLook = 50 * time.Millisecond

// drain gives back what is on its way. Nobody begins to wait any more.
func (p *puller) drain() {
	p.draining.Lock()
	defer p.draining.Unlock()
	for {
		p.mu.Lock()
		inbox := p.inbox
		conn := p.durable.q.conn
		over := inbox == nil || p.asked == 0 || !conn.IsConnected() || conn.Stats().Reconnects != p.reconnects || time.Now().After(p.until.Add(p.durable.q.cfg.Timeout))
		if over {
			p.abandon()
			p.mu.Unlock()
			return
		}
		p.waiting++ // as whoever receives
		p.mu.Unlock()
		look, cancel := context.WithTimeout(context.Background(), drainLook)
		m, _ := p.receive(look, inbox) // an error has been seen to
		cancel()
		if m != nil {
			p.giveBack(m)
			continue
		}
		p.mu.Lock()
		p.waiting--
		p.mu.Unlock()
	}
}
