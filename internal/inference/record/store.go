package record

import (
	"context"
	"encoding/json"
	"time"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/platform/fault"
)

// Store keeps the log of all tenants. It is safe for concurrent use, also by
// several processes.
type Store interface {
	Appender
	// Find returns a tenant's entries, from the latest on, in the order of their places.
	Find(ctx context.Context, q Query) ([]Entry, error)
	// Count returns how many entries the filter chooses: those that Find goes through.
	Count(ctx context.Context, f Filter) (int64, error)
	// Statistics returns what a tenant's entries come to, ordered by start and
	// series, as they are grouped: steps of time are whole minutes. Minutes count as a
	// whole, those that begin in the filter's time. More groups than the limit are
	// fault.Unprocessable; no more are held.
	Statistics(ctx context.Context, f Filter, g Grouping) ([]Rollup, error)
	// Label notes what turned out about a tenant's predictions, now, and says of each
	// what became of it. The last one of a name stays.
	Label(ctx context.Context, tenant string, labels []Label, now time.Time) ([]Labelled, error)
	// Scores returns what the labels of an experiment's predictions come to, by arm and
	// name. It takes all tenants, and of each prediction what counts in statistics; whom a
	// rule chose, and what nobody waited for, are left out.
	Scores(ctx context.Context, w Window) (Scores, error)
	// Identity names the log: all who have it open are told the same, and of two logs
	// each is told another.
	Identity(ctx context.Context) (string, error)
	// Shapes returns what the tensors look like that are kept of predictions, by arm: in
	// whole minutes that begin in the filter's time. Like Scores it takes all tenants, and
	// not those whom a rule chose or that nobody waited for.
	Shapes(ctx context.Context, f Filter) (Shapes, error)
	// Erase forgets what a tenant's log has of a subject: tensors, their digests, the
	// client's names and the values of labels. That there was a prediction, how it ended and how good it was stays,
	// as do sums. It returns how many entries that were. With many it takes several steps: who is
	// told of an error asks again, and what is done stays done.
	Erase(ctx context.Context, tenant string, about Subject) (int64, error)
	// Expire forgets entries, with their labels, that were begun before a time, statistics
	// of minutes before another, and tensors whose time is over. It may leave those of the last day before.
	Expire(ctx context.Context, entries, statistics time.Time) error
	// Ping says whether the store can be reached.
	Ping(ctx context.Context) error
	Close() error
}

// Filter chooses entries. What is empty is not asked for, but for the tenant.
type Filter struct {
	Tenant                          string
	From, To                        time.Time // up to To, without it
	Model, Version, Experiment, Arm string
}

// Window chooses the predictions of an experiment that were begun at a time or later,
// to the millisecond.
type Window struct {
	Experiment string
	From       time.Time
	// Within are the scores that count, both bounds among them; nil for all. It takes
	// reading every label.
	Within *[2]float64
}

// Subject says which predictions are about somebody.
type Subject struct {
	IDs        []ID
	ClientRefs []string
}

// Scores are those of labels, by arm and name.
type Scores map[string]map[string]sequential.Moments

// Add counts scores of a name.
func (s Scores) Add(arm, name string, m sequential.Moments) {
	if s[arm] == nil {
		s[arm] = map[string]sequential.Moments{}
	}
	sum := s[arm][name]
	sum.Merge(m)
	s[arm][name] = sum
}

// Query asks for a page of entries.
type Query struct {
	Filter
	ID        ID
	ClientRef string
	Outcomes  []Outcome // any of these; empty for all
	Content   bool      // with the tensors, where they are kept
	After     Place     // where the page before ended
	Forward   bool      // from the earliest entry on
	Limit     int
}

// ErrFull is what Append fails with where the store has as much as it may: statistics
// have the entries, and the log has not.
var ErrFull error = fault.New(fault.Unprocessable, "the prediction log has as much as it may: entries count in statistics, and are not kept").WithCode("record_full")

// MaxLimit is how many entries a page has at most.
const MaxLimit = 1000

// Resolution is the time that statistics are kept of.
const Resolution = time.Minute

// Label is what turned out about a prediction.
type Label struct {
	ID        ID     // of the prediction, or
	ClientRef string // the client's own name for it
	Name      string // what is labelled; a prediction has one label of each name
	Value     json.RawMessage
	Score     *float64  // how good the prediction was; more is better. Nil for none
	Observed  time.Time // when it turned out; zero where nobody says: when it was labelled
	// Fits says whether the label can be one of a prediction of an experiment, "" for none;
	// nil for any. It is asked once the prediction is known, before anything is noted.
	Fits func(experiment string) bool
}

// Bounds of labels.
const (
	MaxLabelName  = 64  // bytes
	MaxLabelValue = 512 // bytes
	MaxLabels     = 1000
)

// Labelled says what became of a label.
type Labelled uint8

// String names what became of it.
func (l Labelled) String() string {
	return [...]string{"added", "replaced", "unchanged", "unknown", "ambiguous", "unfit"}[l]
}

// What becomes of labels.
const (
	Added     Labelled = iota
	Replaced           // the prediction had another one of that name
	Unchanged          // it had this one
	Unknown            // there is no such prediction, or it is forgotten
	Ambiguous          // the client gave several predictions that name
	Unfit              // see Label.Fits
)
