// Package record is the prediction log: what was asked of which version, in which
// arm, how it ended and how long it took, one entry for each settled request.
//
// The hot path fills a pooled Entry and hands it to a Log, which never makes it wait: an
// entry that finds no room in the buffer is dropped and counted. The Log appends batches to
// a store, which recognises a repeated entry by its id.
//
// Limits: entries are in memory until their batch is appended, so a process that dies loses
// those of about the last second. Requests for models that are not served belong to no
// version and leave no entry.
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
	// ByRule says that a rule chose the arm: the request is not compared with those whose
	// arm was drawn.
	ByRule bool
	// Shadow says that nobody gets this answer: another arm gives the one that is sent.
	Shadow bool
}

// Outcome says how a prediction ended.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = iota
	Failed            // the run, or the work around it, failed
	Refused           // too many requests waited, or its deadline could not be kept
	Invalid           // the request was wrong
	Cancelled         // its client left
)

var outcomes = [...]string{"succeeded", "failed", "refused", "invalid", "cancelled"}

// String returns the outcome's name.
func (o Outcome) String() string { return outcomes[o] }

// Outcomes returns the names of all outcomes, by their numbers.
func Outcomes() []string { return outcomes[:] }

// Failure says whether the outcome is held against the version that served the request.
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

// Latency says where the time of a prediction went. Stages that the request did not reach
// are zero.
type Latency struct {
	Decode, Queue, Infer, Encode time.Duration
	Total                        time.Duration // these, and what lies between them
}

// Digest is a SHA-256; zero for none.
type Digest [32]byte

// Entry is one settled prediction. Log.Record takes ownership of it.
type Entry struct {
	// ID and Attempt are unique together: a durable prediction has an entry for each of its
	// attempts, counted from 1; all others have attempt 0, or 1 where a fallback answered.
	ID      ID
	Attempt int
	At      time.Time // when it was begun, to the millisecond, as in the id
	Tenant  string
	Model   string
	Version string
	Choice
	Bulk      bool   // no client waited: its latency says nothing of the version's
	ClientRef string // the client's own name for it; not unique
	Outcome   Outcome
	Code      string // of the failure, or FallbackCode
	Rows      int
	BatchRows int // of the run that served it; of the last one where there were several
	Steps     int // answers of a generation, whose latencies are summed up; 0 for other predictions
	Latency   Latency
	// The digests of the tensors, where the model's policy asks for them.
	InputDigest, OutputDigest Digest
	// Content has the tensors that the model's policy asks for, see Tensors; nil for none.
	// It is kept until ContentUntil.
	Content      []byte
	ContentUntil time.Time

	policy *ContentPolicy // of raw, until that is redacted
	raw    []byte         // what Take took
	bare   bool           // the tensors were too large to be kept
	weight int64          // bytes that count towards LogConfig.Content
}

// Check fails, as fault.Invalid, where no store could keep the entry.
func (e *Entry) Check() error {
	if e.Tenant == "" || e.ID.IsZero() || e.At.UnixMilli() < 0 || int(e.Outcome) >= len(outcomes) {
		return fault.New(fault.Invalid, "an entry of the prediction log needs a tenant, an id, a time and an outcome, got %q, %s, %s, %d", e.Tenant, e.ID, e.At, e.Outcome).WithCode("entry_invalid")
	}
	return nil
}

// FallbackCode is the code of an entry whose version answered in place of one that was
// overloaded.
const FallbackCode = "fallback"

// fallbackMark follows an experiment's id in entries that do not count for it.
const fallbackMark = "/" + FallbackCode

// FellBack marks the entry of an answer that a version gave in place of an overloaded one.
// For the arm only the refusal counts, which is the attempt before: this entry has
// /fallback behind the experiment's id, so that neither it nor its labels are compared.
func (e *Entry) FellBack() {
	if e.Code == "" {
		e.Code = FallbackCode
	}
	if e.Experiment != "" {
		e.Experiment += fallbackMark
	}
}

// MaxClientRef is how many bytes a client's name for a prediction may have; a longer one
// is not kept.
const MaxClientRef = 255
