package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// ErrLeaseLost is the cause of the end of a handler's context where its lease ran
// out: another may have the message by now. A consumer that stops has another cause.
var ErrLeaseLost = errors.New("the lease ran out")

// Handler handles one delivery. What it returns decides what follows:
//
//   - nil: the message is done.
//   - a kind that the same message would meet again (invalid, not_found,
//     unsupported, too_large, unauthenticated, permission_denied): it becomes a
//     dead letter at once.
//   - any other error, or a panic: it is delivered again after the consumer's
//     backoff or the error's RetryAfter, whichever is longer, until the
//     attempts are used up; then it becomes a dead letter.
//
// ctx ends when the lease is lost, and at the end of the drain time after the
// consumer was stopped. What a handler does after that may happen twice.
type Handler func(ctx context.Context, d Delivery) error

// Delivery is a message that is leased to this handler.
type Delivery struct {
	Message
	// Attempt counts deliveries, from 1.
	Attempt int

	extend func(context.Context) error
}

// NewDelivery returns a delivery, for dispatch and for tests of handlers. A nil
// extend always succeeds.
func NewDelivery(m Message, attempt int, extend func(context.Context) error) Delivery {
	return Delivery{Message: m, Attempt: attempt, extend: extend}
}

// Extend starts the lease anew. A handler that needs longer than the lease
// calls it whenever it has progressed (never from a bare ticker, or a hung
// handler holds the message for ever). It returns fault.Conflict with code
// "lease_lost" if it came too late: another consumer may have the message.
func (d Delivery) Extend(ctx context.Context) error {
	if d.extend == nil {
		return nil
	}
	return d.extend(ctx)
}

// Consumer configures a durable consumer: its position and its open deliveries
// are kept by the queue under its name.
type Consumer struct {
	Name    string   // letters, digits, '-' and '_'
	Stream  string   // the stream it consumes
	Filters []string // patterns of the subjects it takes; none means all

	// Concurrency is how many handlers run at once in this process; default 8.
	// No message is fetched before a handler is free for it.
	Concurrency int
	// Ordered handles messages of one subject one after the other in the order
	// in which they were stored, over all processes and through failures: while
	// one of them is being tried again, those behind it wait. Subjects share a
	// bounded number of lanes, so some wait for other subjects, too, and more
	// than MaxLanes handlers never run.
	Ordered bool
	// Repeatable says that a message which is done does no harm when it comes again. So a
	// queue may send word that it is done without waiting for an answer; where the word is
	// lost, it comes again when its lease has run out.
	Repeatable bool

	Lease       time.Duration // how long a delivery belongs to a handler without Extend; default 30s
	MaxAttempts int           // deliveries before a message becomes a dead letter; default 5
	Backoff     Backoff
	Drain       time.Duration // how long handlers may finish after the consumer was stopped; default 10s
}

// MaxLanes is how many lanes the subjects of an ordered consumer share.
const MaxLanes = 8

// Backoff is the delay between attempts: Min doubled with each failure up to
// Max, of which a random part of up to a half is taken off.
type Backoff struct {
	Min time.Duration // default 1s
	Max time.Duration // default 1m
}

// After returns the delay after the attempt, without the random part.
func (b Backoff) After(attempt int) time.Duration {
	shift := min(max(attempt-1, 0), 30)
	if d := b.Min << shift; d > 0 && d < b.Max && d>>shift == b.Min {
		return d
	}
	return b.Max
}

// Normal returns the configuration with its defaults, or fault.Invalid.
func (c Consumer) Normal() (Consumer, error) {
	c.Filters = slices.Clone(c.Filters)
	c.Concurrency = cmp.Or(c.Concurrency, 8)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 5)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	c.Backoff.Min = cmp.Or(c.Backoff.Min, time.Second)
	c.Backoff.Max = cmp.Or(c.Backoff.Max, max(time.Minute, c.Backoff.Min))
	switch {
	case !Name(c.Name) || !Name(c.Stream):
		return c, badConfig("consumer %q of stream %q: names must have letters, digits, '-' and '_' only", c.Name, c.Stream)
	case !all(c.Filters, Pattern):
		return c, badConfig("consumer %s: filters %q must be tokens separated by dots", c.Name, c.Filters)
	case c.Concurrency < 1 || c.Concurrency > 1024:
		return c, badConfig("consumer %s: concurrency %d: 1 to 1024 are possible", c.Name, c.Concurrency)
	case c.Lease < 50*time.Millisecond:
		return c, badConfig("consumer %s: a lease of %s is shorter than a delivery may take; use at least 50ms", c.Name, c.Lease)
	case c.MaxAttempts < 1:
		return c, badConfig("consumer %s: %d attempts: at least 1 is needed", c.Name, c.MaxAttempts)
	case c.Backoff.Min < time.Millisecond || c.Backoff.Max < c.Backoff.Min || c.Drain < 0:
		return c, badConfig("consumer %s: the backoff must be at least 1ms and rise, the drain time not be negative", c.Name)
	}
	return c, nil
}
