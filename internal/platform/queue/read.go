package queue

import (
	"context"
	"fmt"
	"iter"

	"sluice/internal/platform/fault"
)

// Reader reads streams without consuming them.
type Reader interface {
	// Read yields the stream's messages in order. It ends with one error: what
	// went wrong, a *GapError, or nothing if ctx ended or a read that does not
	// follow has caught up.
	Read(ctx context.Context, r Read) iter.Seq2[Message, error]
	// Bounds returns what the stream holds.
	Bounds(ctx context.Context, stream string) (Bounds, error)
}

// Read says what to read.
type Read struct {
	Stream  string
	Filters []string // patterns; none means all
	// From is the sequence to go on with: one more than the last seen. 0 is
	// the oldest that is there.
	From uint64
	// Follow waits for new messages instead of ending at the newest.
	Follow bool
}

// Bounds are the sequences of the oldest and the newest message of a stream.
// In an empty one First is Last+1.
type Bounds struct{ First, Last uint64 }

// Check returns a *GapError if reading cannot go on at from.
func (b Bounds) Check(stream string, from uint64) error {
	if from != 0 && (from < b.First || from > b.Last+1) {
		return &GapError{Stream: stream, From: from, Bounds: b}
	}
	return nil
}

// GapError says that the messages to go on with are not there: they are older
// than what is kept, or the stream is another one than the position came from.
// Readers that filter learn of it only at their start.
type GapError struct {
	Stream string
	From   uint64 // what was asked for
	Bounds Bounds // what is there
}

// Error says what is there.
func (e *GapError) Error() string {
	return fmt.Sprintf("stream %s cannot go on at %d: it holds %d to %d; start at one of them, or at 0 for the oldest", e.Stream, e.From, e.Bounds.First, e.Bounds.Last)
}

// Unwrap classifies it as a conflict with code "sequence_gap".
func (e *GapError) Unwrap() error {
	return fault.New(fault.Conflict, "%s", e.Error()).WithCode("sequence_gap")
}

// Validate returns fault.Invalid for a wrong filter.
func (r Read) Validate() error {
	if !all(r.Filters, Pattern) {
		return badConfig("read of %s: filters %q must be tokens separated by dots", r.Stream, r.Filters)
	}
	return nil
}
