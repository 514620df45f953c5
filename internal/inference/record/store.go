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
	// Statistics sums up a tenant's entries by the grouping, ordered by start and series.
	// The grouping's step is in whole minutes, and minutes count as a whole where they
	// begin in the filter's time. More groups than the limit are fault.Unprocessable, and
	// are not held in memory.
	Statistics(ctx context.Context, f Filter, g Grouping) ([]Rollup, error)
	// Label stores labels of a tenant's predictions and returns what became of each. A later
	// one replaces an earlier one of the same name.
	Label(ctx context.Context, tenant string, labels []Label, now time.Time) ([]Labelled, error)
	// Scores sums up the labels of an experiment's predictions, of all tenants, by arm and
	// name. Predictions whose arm a rule chose, and shadow ones, are left out.
	Scores(ctx context.Context, w Window) (Scores, error)
	// Identity returns the log's own name: the same in every process that has it open, and
	// another for every other log.
	Identity(ctx context.Context) (string, error)
	// Shapes returns the shapes of the tensors that are kept of predictions, in whole minutes
	// that begin in the filter's time. Like Scores it takes all tenants, and leaves out
	// predictions whose arm a rule chose, and shadow ones.
	Shapes(ctx context.Context, f Filter) (Shapes, error)
	// Erase removes from a tenant's log what it has of a subject: tensors, their digests,
	// the client's names and the values of labels. That there was a prediction, how it
	// ended and its scores stay, as do sums. It returns how many entries were concerned. It
	// may take several steps: after an error, call it again; what is erased stays erased.
	Erase(ctx context.Context, tenant string, about Subject) (int64, error)
	// Expire removes entries that were begun before the first time, with their labels,
	// statistics of minutes before the second, and tensors whose time is over. What became
	// due within the last day may stay.
	Expire(ctx context.Context, entries, statistics time.Time) error
	// Ping says whether the store can be reached.
	Ping(ctx context.Context) error
	Close() error
}

// Filter chooses entries. Fields that are empty choose all, except the tenant, which has to
// be given.
type Filter struct {
	Tenant                          string
	From, To                        time.Time // from From up to, not including, To
	Model, Version, Experiment, Arm string
}

// Window chooses the predictions of an experiment that were begun at a time or later,
// to the millisecond.
type Window struct {
	Experiment string
	From       time.Time
	// Within is the range, bounds included, of the scores that count; nil is all. With it
	// every label has to be read.
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

// ErrFull is what Append fails with where the store is full: the entries are counted in
// statistics, but not kept.
var ErrFull error = fault.New(fault.Unprocessable, "the prediction log is full: entries count in statistics, and are not kept").WithCode("record_full")

// MaxLimit is how many entries a page has at most.
const MaxLimit = 1000

// Resolution is the time that statistics are kept of.
const Resolution = time.Minute

// Label is what turned out about a prediction after it was made.
type Label struct {
	ID        ID     // of the prediction, or
	ClientRef string // the client's own name for it
	Name      string // what is labelled; a prediction has one label of each name
	Value     json.RawMessage
	Score     *float64  // how good the prediction was; more is better. Nil for none
	Observed  time.Time // when it turned out; zero is when it was labelled
	// Fits says whether a prediction of an experiment ("" for none) can have the label; nil
	// is always. It is called once the prediction is found, before anything is stored.
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
