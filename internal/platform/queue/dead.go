package queue

import (
	"context"
	"time"
)

// DeadLetter is a message that a consumer gave up, with why.
type DeadLetter struct {
	// ID names the dead letter within its stream: consumer and message ID with
	// a dot between. One message has one dead letter for each consumer.
	ID       string
	Sequence uint64 // position among the stream's dead letters, for paging
	Stream   string
	Consumer string
	Code     string // the fault's code, such as "invalid" or "attempts_exhausted"
	Reason   string // the fault's message; never its cause, which may hold secrets
	Attempts int
	Time     time.Time // when it was given up
	Message  Message   // as it was published, with its sequence and time
}

// DeadID returns the ID of a consumer's dead letter for a message.
func DeadID(consumer, message string) string { return consumer + "." + message }

// CodeExhausted marks dead letters whose attempts were used up without an
// outcome: the process ended each time, or the lease ran out.
const CodeExhausted = "attempts_exhausted"

// DeadLetters is for those who look after what was given up. Errors are
// fault.NotFound for an unknown stream or letter.
type DeadLetters interface {
	// Dead returns up to limit (1 to 1000) dead letters of the stream whose
	// Sequence is above after, in that order.
	Dead(ctx context.Context, stream string, after uint64, limit int) ([]DeadLetter, error)
	// DeadByID returns one.
	DeadByID(ctx context.Context, stream, id string) (DeadLetter, error)
	// Replay publishes the message again with its ID to its subject, behind
	// what is there, and then removes the dead letter. Every consumer of the
	// subject gets it. If it failed half way, replaying again does no harm.
	Replay(ctx context.Context, stream, id string) error
	// DiscardDead removes one for ever.
	DiscardDead(ctx context.Context, stream, id string) error
}
