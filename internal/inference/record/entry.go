// Package record is the prediction log: what was asked of which version, in which
// arm, how it ended and how long it took, one entry for each settled request.
//
// The hot path fills a pooled Entry and hands it to a Log, whose buffer never
// makes it wait: what finds no room is dropped and counted. The Log appends
// batches to a store, which knows a repeated entry by its id.
//
// Limits: entries are in memory until their batch is appended, so that a process
// that dies takes those of about a second with it. Requests for models that are not
// served belong to no version and leave no entry.
package record

import (
	"time"

	"sluice/internal/platform/fault"
)

// Choice says how a request came to the version that served it. The zero value is
// a request outside of every experiment.
type Choice struct {
	Experiment string
	Arm        string
	// ByRule says that a rule gave the request to its arm: it is not compared with
	// those that chance has given theirs.
	ByRule bool
	// Shadow says that nobody waits for the answer: another arm gives it.
	Shadow bool
}

// Outcome says how a prediction ended.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = iota
	Failed            // the run, or what belongs to it, broke
	Refused           // too many waited, or it was too late
	Invalid           // the request was wrong
	Cancelled         // its client went
)

var outcomes = [...]string{"succeeded", "failed", "refused", "invalid", "cancelled"}

// String is how an outcome is spelled.
func (o Outcome) String() string { return outcomes[o] }

// Outcomes returns how outcomes are spelled, by their numbers.
func Outcomes() []string { return outcomes[:] }

// Failure says whether it speaks against what served the request: that which is the
// client's doing does not.
func (o Outcome) Failure() bool { return o == Failed || o == Refused }

// OutcomeOf returns the outcome that an error stands for.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Succeeded
	}
	switch fault.Of(err).Kind {
	case fault.Unavailable, fault.Exhausted, fault.DeadlineExceeded:
		return Refused
	case fault.Canceled:
		return Cancelled
	case fault.Internal:
		return Failed
	}
	return Invalid
}

// Latency says where the time of a prediction went. What a request did not come
// to is zero.
type Latency struct {
	Decode, Queue, Infer, Encode time.Duration
	Total                        time.Duration // all of it, and what is between
}

// Digest is a SHA-256; zero for none.
type Digest [32]byte

// Entry is one settled prediction. An entry that a Log has been given is the
// Log's.
type Entry struct {
	// ID and Attempt tell it from all others: a durable prediction has an entry for
	// each of its attempts, from 1 on; all others have attempt 0, and what a fallback
	// answered 1.
	ID      ID
	Attempt int
	At      time.Time // when it was begun, in milliseconds as the id has it
	Tenant  string
	Model   string
	Version string
	Choice
	Bulk      bool   // it had no client waiting: its latency is that of spare time
	ClientRef string // the client's own name for it; not unique
	Outcome   Outcome
	Code      string // of the failure, or FallbackCode
	Rows      int
	BatchRows int // in the run that served it, the last one of several
	Steps     int // answers of a generation, whose latency is the sum of theirs; 0 for all others
	Latency   Latency
	// The digests of the tensors, where the model's policy asks for them.
	InputDigest, OutputDigest Digest
	// Content has the tensors that the model's policy asks for, see Tensors; nil for none.
	// It is kept until ContentUntil.
	Content      []byte
	ContentUntil time.Time

	policy *ContentPolicy // of what was taken, and is not redacted yet
	raw    []byte         // what was taken
	bare   bool           // it was too much
	weight int64          // what counts in the log's memory
}

// Check says what keeps the entry from being kept by any store, as fault.Invalid.
func (e *Entry) Check() error {
	if e.Tenant == "" || e.ID.IsZero() || e.At.UnixMilli() < 0 || int(e.Outcome) >= len(outcomes) {
		return fault.New(fault.Invalid, "an entry of the prediction log needs a tenant, an id, a time and an outcome, got %q, %s, %s, %d", e.Tenant, e.ID, e.At, e.Outcome).WithCode("entry_invalid")
	}
	return nil
}

// FallbackCode is the code of an entry whose version answered for another, which had
// refused the prediction for load.
const FallbackCode = "fallback"

// fallbackMark follows the id of an experiment that an entry is not of.
const fallbackMark = "/" + FallbackCode

// FellBack makes the entry that of an answer which a version gave for another that was
// overloaded. The refusal is the attempt before, and is what counts for the arm; this
// one has the arm under the experiment's id with /fallback behind it, so that it
// counts in no comparison, and neither do its labels.
func (e *Entry) FellBack() {
	if e.Code == "" {
		e.Code = FallbackCode
	}
	if e.Experiment != "" {
		e.Experiment += fallbackMark
	}
}

// MaxClientRef is how many bytes a client's name for a prediction may have; of a
// longer one nothing is kept.
const MaxClientRef = 255
