// Package queue is the port for durable messages: publish with acknowledgement,
// work that is leased to one consumer at a time, dead letters, and reading a
// stream from any position.
//
// A queue delivers at least once. What is handled must bear being handled
// again: the message's ID is the same each time, so that a consumer can keep an
// inbox. The store is the truth and the queue a hint: a queue that lost its
// data is filled again from the outbox.
//
// Adapters: memqueue for tests, natsqueue for JetStream in process or as a
// cluster. Both pass queuetest.Run. Package dispatch holds what their consumers
// have in common.
//
// Known limits: duplicates are recognised only within the stream's window, and
// on a work stream not across a restart of the server. Attempts are counted by
// delivery, so a crash or a stop of the process during one counts, too. A time to deliver cannot
// be set: delays exist only between attempts.
package queue

import (
	"context"
	"maps"
	"time"
)

// Message is what travels. Its fields are the sender's, except for Sequence
// and Time, which the queue sets when it has stored the message.
type Message struct {
	// ID names the message for ever, through redelivery and replay. Publishing
	// an ID again within the stream's duplicate window stores nothing.
	ID string
	// Subject routes the message to a stream and is the key of its order:
	// tokens of letters, digits, '-' and '_', separated by dots.
	Subject string
	Header  Header
	Data    []byte

	Sequence uint64    // position in the stream, from 1
	Time     time.Time // when it was stored
}

// Header carries what surrounds the data: trace parent, request id, tenant,
// type of the event. Keys are case-sensitive; see Message.Validate for limits.
type Header map[string]string

// The keys that the platform's own messages use.
const (
	HeaderTraceParent = "traceparent" // W3C Trace Context
	HeaderRequestID   = "request-id"
	HeaderCorrelation = "correlation-id"
	HeaderTenant      = "tenant"
	HeaderType        = "type"
)

// Clone returns a message that shares nothing with m but its data.
func (m Message) Clone() Message {
	m.Header = maps.Clone(m.Header)
	return m
}

// Publisher stores messages.
type Publisher interface {
	// Publish stores the messages and returns nil once every one is
	// acknowledged. Otherwise the error is a *PublishError with an outcome for
	// each. Messages of one subject are stored in their order: what follows a
	// failed one is not sent. An outcome can be unknown (a lost connection):
	// publish again with the same ID.
	//
	// A stream that is full refuses with fault.Unavailable, code "queue_full"
	// and a time to retry after; a queue that cannot be reached with code
	// "queue_unavailable"; a message over a limit with fault.TooLarge, code
	// "message_too_large".
	Publish(ctx context.Context, messages ...Message) error
}

// Consuming hands messages to handlers.
type Consuming interface {
	// Consume hands the consumer's messages to handle until ctx ends, then
	// stops taking new ones, lets handlers finish and returns nil. It returns
	// an error only if the consumer cannot be set up: a queue that goes away
	// later is waited for. Consumers of the same name share the work, in this
	// process and in others.
	Consume(ctx context.Context, c Consumer, handle Handler) error
}

// Queue is all that an adapter offers. Use cases ask for the part they need.
type Queue interface {
	Publisher
	Consuming
	Reader
	DeadLetters
	Admin
}

// Admin sets up streams and watches over the queue.
type Admin interface {
	// Ensure creates the streams, or changes existing ones to the given limits.
	// Several nodes may call it at once.
	Ensure(ctx context.Context, streams ...Stream) error
	// Healthy returns nil if messages can be stored now.
	Healthy(ctx context.Context) error
}
