package memqueue

import (
	"bytes"
	"context"
	"slices"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/queue"
	"sluice/internal/platform/queue/dispatch"
)

// consumer is the state that all who consume under one name share.
type consumer struct {
	name    string
	filters []string
	ordered bool
	lease   time.Duration
	next    uint64  // everything below was delivered or is parked in open
	open    []*open // by sequence
}

// open is a message that is not settled.
type open struct {
	sequence uint64
	subject  string
	attempt  int       // 0 while it waits behind others of its subject
	due      time.Time // when it may be delivered (again): end of the lease, or of a delay
}

// Consume implements queue.Consuming.
func (q *Queue) Consume(ctx context.Context, c queue.Consumer, handle queue.Handler) error {
	c, err := c.Normal()
	if err != nil {
		return err
	}
	state, err := q.consumer(c)
	if err != nil {
		return err
	}
	n := c.Concurrency
	if c.Ordered {
		n = min(n, queue.MaxLanes)
	}
	sources := make([]dispatch.Source, n)
	for i := range sources {
		sources[i] = &source{q: q, stream: c.Stream, c: state}
	}
	dispatch.Run(ctx, dispatch.Job{
		Consumer: c, Handle: handle, Sources: sources, Bury: q.bury,
		Metrics: q.cfg.Metrics.Consumer(c.Name), Log: q.cfg.Log,
	})
	return nil
}

// consumer finds or makes the durable state.
func (q *Queue) consumer(c queue.Consumer) (*consumer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, err := q.stream(c.Stream)
	if err != nil {
		return nil, err
	}
	state := s.consumers[c.Name]
	if state == nil {
		state = &consumer{name: c.Name, next: 1}
	}
	for _, other := range s.consumers {
		if s.cfg.Retention == queue.Work && other != state && overlap(other.filters, c.Filters) {
			return nil, fault.New(fault.Conflict, "consumer %s: its filters overlap those of %s, and a message of a work stream has one consumer; change the filters", c.Name, other.name).WithCode("queue_config_conflict")
		}
	}
	state.filters, state.ordered, state.lease = c.Filters, c.Ordered, c.Lease
	s.consumers[c.Name] = state
	return state, nil
}

func overlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(p string) bool {
		return slices.ContainsFunc(b, func(o string) bool { return queue.Matches(p, o) || queue.Matches(o, p) })
	})
}

// source hands out the deliveries of a consumer.
type source struct {
	q      *Queue
	stream string
	c      *consumer
}

// Next implements dispatch.Source.
func (s *source) Next(ctx context.Context) (dispatch.Leased, error) {
	for ctx.Err() == nil {
		s.q.mu.Lock()
		st, err := s.q.stream(s.stream)
		if err != nil {
			s.q.mu.Unlock()
			return dispatch.Leased{}, err
		}
		m, until, ok := s.c.take(st, time.Now())
		changed := s.q.changed
		s.q.mu.Unlock()
		if ok {
			m.Lease = &lease{q: s.q, stream: s.stream, c: s.c, sequence: m.Sequence, attempt: m.Attempt}
			return m, nil
		}
		wait(ctx, changed, until)
	}
	return dispatch.Leased{}, ctx.Err()
}

// Close implements dispatch.Source.
func (s *source) Close() {}

// take leases the next message that is due, or says after which time one may
// be; 0 is never.
func (c *consumer) take(s *stream, now time.Time) (m dispatch.Leased, until time.Duration, ok bool) {
	c.open = slices.DeleteFunc(c.open, func(o *open) bool {
		_, there := s.get(o.sequence) // limits may have taken it
		return !there
	})
	busy := map[string]bool{}
	for _, o := range c.open {
		behind := c.ordered && busy[o.subject]
		busy[o.subject] = true
		switch d := o.due.Sub(now); {
		case behind:
		case d <= 0:
			return c.deliver(s, o, now), 0, true
		case until == 0 || d < until:
			until = d
		}
	}
	for _, m := range s.from(c.next) {
		c.next = m.Sequence + 1
		if !queue.MatchesAny(c.filters, m.Subject) {
			continue
		}
		o := &open{sequence: m.Sequence, subject: m.Subject}
		c.open = append(c.open, o)
		if !c.ordered || !busy[m.Subject] {
			return c.deliver(s, o, now), 0, true
		}
	}
	return dispatch.Leased{}, until, false
}

func (c *consumer) deliver(s *stream, o *open, now time.Time) dispatch.Leased {
	o.attempt++
	o.due = now.Add(c.lease)
	m, _ := s.get(o.sequence)
	m = m.Clone()
	m.Data = bytes.Clone(m.Data)
	return dispatch.Leased{Message: m, Attempt: o.attempt}
}

// lease is one delivery's; a later one of the same message makes it void.
type lease struct {
	q        *Queue
	stream   string
	c        *consumer
	sequence uint64
	attempt  int
}

// Ack implements dispatch.Lease.
func (l *lease) Ack(context.Context) error {
	return l.settle(func(s *stream, i int) {
		l.c.open = slices.Delete(l.c.open, i, i+1)
		if s.cfg.Retention == queue.Work {
			s.remove(l.sequence)
		}
	})
}

// Retry implements dispatch.Lease.
func (l *lease) Retry(_ context.Context, delay time.Duration) error {
	return l.settle(func(_ *stream, i int) { l.c.open[i].due = time.Now().Add(delay) })
}

// Extend implements dispatch.Lease.
func (l *lease) Extend(context.Context) error {
	return l.settle(func(_ *stream, i int) { l.c.open[i].due = time.Now().Add(l.c.lease) })
}

func (l *lease) settle(f func(s *stream, i int)) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	i := slices.IndexFunc(l.c.open, func(o *open) bool { return o.sequence == l.sequence && o.attempt == l.attempt })
	s := l.q.streams[l.stream]
	if i < 0 || !time.Now().Before(l.c.open[i].due) || s == nil {
		return dispatch.LeaseLost()
	}
	f(s, i)
	l.q.notify()
	return nil
}
