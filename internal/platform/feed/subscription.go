package feed

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// What one call of Next returns at most, so that a write is not too large.
const (
	maxBatch      = 64
	maxBatchBytes = 64 << 10
)

// Errors that end a subscription, besides ErrDraining and the source's.
var (
	// ErrEnded says that nothing will follow, ever.
	ErrEnded = io.EOF
	// ErrSlow ends a subscription with the policy Disconnect.
	ErrSlow error = fault.New(fault.Exhausted, "the stream was closed because its consumer was too slow for slow=disconnect: connect again with the last cursor, or choose another policy").
		WithCode("slow_consumer").WithRetryAfter(time.Second)
	// ErrExpired ends a subscription whose credential has ended.
	ErrExpired error = fault.New(fault.Unauthenticated, "the credential that opened the stream has expired: connect again with a new one and the last cursor").
			WithCode("credential_expired")
)

// Subscription is one consumer's way through a stream. Its methods are for one
// goroutine, except for Grant.
type Subscription struct {
	hub       *Hub
	channel   *channel // nil for topics
	topic     *Topic   // nil for the hub's source
	ring      *ring
	source    Source // what holds more than the ring; nil for topics
	filter    Filter
	policy    Policy
	transport string
	expires   time.Time
	from      Cursor
	credit    credit
	wake      chan struct{}
	timer     *time.Timer

	// Guarded by the ring's lock.
	pos        uint64 // everything up to here was queued, or was not for this consumer
	sure       uint64 // up to here that does not rest on the ring
	generation uint64
	waiting    bool

	epoch  string
	queue  []*Event // to be delivered, next first
	room   []*Event // the queue's array, used again
	caught bool     // it was up to date at least once: now its policy counts
	done   uint64   // the sequence of the last event handed out
	last   *Event   // which ends the stream, if the filter says so
	closed bool
	sent   prometheus.Counter
}

func newSubscription(h *Hub, r *Request) *Subscription {
	s := &Subscription{hub: h, filter: r.Filter, policy: r.Policy, transport: r.Transport, expires: r.Expires, wake: make(chan struct{}, 1),
		sent: h.metrics.sent.WithLabelValues(r.Transport)}
	s.credit.on = r.Credits
	return s
}

// From returns the position that the subscription began behind. It differs from
// the cursor that was asked for where that was lost.
func (s *Subscription) From() Cursor { return s.from }

// Policy returns the policy in force.
func (s *Subscription) Policy() Policy { return s.policy }

// Grant allows so many messages more, and so many bytes of data. Bytes count
// once any were granted; a message that needs more than what is left waits.
func (s *Subscription) Grant(messages, bytes int64) {
	s.credit.grant(messages, bytes)
	s.rouse()
}

func (s *Subscription) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next returns what is next, at least one event, or none when patience has
// passed: time for a sign of life. The batch is valid until the next call. After
// an error nothing follows: ErrEnded, ErrDraining, ErrSlow, ErrExpired, or ctx's.
func (s *Subscription) Next(ctx context.Context, patience time.Duration) ([]*Event, error) {
	if s.policy == Block {
		s.ring.consume(s.done)
	}
	s.start(patience)
	defer s.timer.Stop()
	for {
		if err := s.over(ctx); err != nil {
			return nil, err
		}
		batch, err := s.take(ctx)
		if err == errPatience { //nolint:errorlint // made here, never wrapped
			return nil, s.over(ctx)
		}
		if len(batch) > 0 || err != nil {
			return batch, err
		}
		select {
		case <-s.wake:
		case <-s.timer.C:
			return nil, s.over(ctx)
		case <-s.leave():
		case <-ctx.Done():
		}
	}
}

// errPatience says that the timer has fired.
var errPatience = errors.New("patience has passed")

// start sets the timer, such that the end of the credential is noticed.
func (s *Subscription) start(patience time.Duration) {
	if !s.expires.IsZero() {
		patience = min(patience, s.expires.Sub(s.hub.cfg.Now()))
	}
	if s.timer == nil {
		s.timer = time.NewTimer(patience)
	} else {
		s.timer.Reset(patience)
	}
}

// over returns why the subscription ends now.
func (s *Subscription) over(ctx context.Context) error {
	select {
	case <-s.leave():
		return ErrDraining
	default:
	}
	if !s.expires.IsZero() && !s.hub.cfg.Now().Before(s.expires) {
		return ErrExpired
	}
	return ctx.Err()
}

// leave is closed when the subscription shall end.
func (s *Subscription) leave() <-chan struct{} {
	if s.topic != nil && s.topic.block {
		return s.hub.closed
	}
	return s.hub.draining
}

// take returns what can be delivered without waiting.
func (s *Subscription) take(ctx context.Context) ([]*Event, error) {
	if len(s.queue) == 0 {
		clear(s.room)
		s.queue = s.room[:0]
	}
	if s.last != nil && len(s.queue) == 0 {
		return nil, ErrEnded
	}
	want := s.credit.some()
	behind, ended := s.pull(want)
	switch {
	case behind && s.caught && s.policy == Disconnect:
		return nil, ErrSlow
	case behind && want && len(s.queue) == 0:
		if err := s.catchUp(ctx); err != nil {
			return nil, err
		}
		if s.policy == Conflate { // what waits in the ring counts, too
			s.pull(want)
		}
	case ended && len(s.queue) == 0:
		return nil, ErrEnded
	}
	return s.deliver(), nil
}

// pull queues what the ring has. It reports whether the ring has let go of what
// is next, and whether nothing will ever come.
func (s *Subscription) pull(want bool) (behind, ended bool) {
	r := s.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.generation != r.generation {
		s.regenerate()
	}
	if s.pos < r.floor {
		return true, false
	}
	s.scan(s.limit(want))
	if s.policy == Conflate {
		s.conflate()
	}
	if s.pos < r.read || s.last != nil {
		return false, false
	}
	s.caught = true
	if !r.ended {
		r.join(s)
	}
	return false, r.ended
}

// limit is how many events the queue may have: none more than it has where
// there is no credit for them.
func (s *Subscription) limit(want bool) int {
	switch {
	case !want:
		return 0
	case s.policy == Conflate:
		return max(maxBatch, s.ring.maxEvents)
	case len(s.queue) > 0:
		return 0
	}
	return maxBatch
}

// scan queues events of the ring up to the limit, and moves past those that are
// not for this consumer. Callers hold the ring's lock.
func (s *Subscription) scan(limit int) {
	for _, e := range s.ring.after(s.pos) {
		if s.last != nil || len(s.queue) >= limit && s.filter.Match(e) {
			return
		}
		s.enqueue(e)
	}
	s.pos = max(s.pos, s.ring.read)
}

// enqueue moves past an event, and queues it if it is for this consumer. Callers
// hold the ring's lock, or read the source instead of the ring.
func (s *Subscription) enqueue(e *Event) {
	s.pos = e.Cursor.Seq
	if !s.filter.Match(e) {
		return
	}
	s.queue = append(s.queue, e)
	if e.Type == TypeEnd {
		s.last = e
	} else if s.filter.ends(e) {
		s.last = newEnd(e.Cursor, e.Time)
		s.queue = append(s.queue, s.last)
	}
}

func (s *Subscription) conflate() {
	var n int
	s.queue, n = conflate(s.queue)
	s.hub.metrics.dropped.WithLabelValues(string(Conflate)).Add(float64(n))
}

// regenerate meets a ring that was reset, or that may have missed something.
// Callers hold the ring's lock.
func (s *Subscription) regenerate() {
	r := s.ring
	from, to := min(s.pos, r.since), r.resume
	if s.epoch == r.epoch && r.reason == ReasonExpired && s.generation+1 == r.generation {
		s.generation = r.generation
		from, to = max(r.since, s.sure), max(s.pos, r.until)
		if from >= min(s.pos, r.until) {
			return // it has taken nothing from the ring where that may have holes
		}
	}
	s.tell(NewGap(Cursor{s.epoch, from}, Cursor{r.epoch, to}, r.reason, s.hub.cfg.Now()))
	s.generation, s.epoch, s.pos, s.sure = r.generation, r.epoch, to, to
}

// tell queues a gap event.
func (s *Subscription) tell(gap *Event) { s.queue = append(s.queue, gap) }

// deliver hands out of the queue what a batch and the credit allow.
func (s *Subscription) deliver() []*Event {
	s.room = s.queue
	n, size := 0, 0
	for n < len(s.queue) && n < maxBatch && size < maxBatchBytes && s.credit.take(len(s.queue[n].Data)) {
		size += len(s.queue[n].Data)
		n++
	}
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	if n > 0 {
		s.done = batch[n-1].Cursor.Seq
	}
	return batch
}

// Sent counts events that were written to the consumer.
func (s *Subscription) Sent(batch []*Event) {
	now := s.hub.cfg.Now()
	s.sent.Add(float64(len(batch)))
	for _, e := range batch {
		if e.Type == TypeGap {
			s.hub.metrics.gaps.WithLabelValues(gapReason(e)).Inc()
		} else if s.caught {
			s.hub.metrics.lag.Observe(max(now.Sub(e.Time).Seconds(), 0))
		}
	}
}

// Close ends the subscription; more than once does no harm.
func (s *Subscription) Close() {
	if s.closed {
		return
	}
	s.closed = true
	s.detach()
	s.hub.metrics.connections.WithLabelValues(s.transport, string(s.policy)).Dec()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.open, s)
	s.hub.release(s.filter.Tenant)
}

// detach leaves the ring and what fills it.
func (s *Subscription) detach() {
	s.ring.leave(s)
	if s.channel != nil {
		s.hub.leave(s.channel)
	} else if s.topic.block {
		s.topic.taken.Store(false)
	}
}
