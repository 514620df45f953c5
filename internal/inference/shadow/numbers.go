package shadow

import (
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/platform/fault"
)

// Policy says which requests a candidate gets a copy of, and what agrees.
type Policy struct {
	// Sample is the share of requests, above 0 and at most 1.
	Sample float64 `json:"sample"`
	Config
}

// DefaultPolicy gives the candidate a copy of every request.
func DefaultPolicy() Policy { return Policy{1, DefaultConfig()} }

// Validate says what is wrong with the policy.
func (p Policy) Validate() error {
	if !(p.Sample > 0 && p.Sample <= 1) {
		return fault.New(fault.Unprocessable, "sample is %g, expected more than 0 and at most 1", p.Sample).WithCode("shadow_config")
	}
	return p.Config.Validate()
}

// Dropped says why a copy came to nothing, for no fault of the candidate's.
type Dropped string

// The reasons.
const (
	Busy    Dropped = "busy"    // there was no idle capacity, or there was none any more
	Full    Dropped = "full"    // too many waited, or they took too much memory
	Missing Dropped = "missing" // the candidate is not loaded here
	Closing Dropped = "closing" // the process ends
)

// Reasons are all of them.
func Reasons() []Dropped { return []Dropped{Busy, Full, Missing, Closing} }

// Numbers are what is known of a candidate by its shadow runs. They merge, and are
// not safe for concurrent use.
type Numbers struct {
	Report  *Report           `json:"report"`
	Failed  int64             `json:"failed"` // runs of the candidate; the champion has answered
	Dropped map[Dropped]int64 `json:"dropped,omitempty"`
	// Champion and Candidate are the times of the runs that were compared.
	Champion  *histogram.Histogram `json:"champion_latency"`
	Candidate *histogram.Histogram `json:"candidate_latency"`
}

// NewNumbers returns those of nothing.
func NewNumbers(c Config) (*Numbers, error) {
	r, err := NewReport(c)
	return &Numbers{r, 0, map[Dropped]int64{}, new(histogram.Histogram), new(histogram.Histogram)}, err
}

// Ran counts the times of a pair of runs.
func (n *Numbers) Ran(champion, candidate time.Duration) {
	n.Champion.Add(champion)
	n.Candidate.Add(candidate)
}

// Total is how many copies of requests came to something or nothing.
func (n *Numbers) Total() int64 {
	sum := n.Report.Answers + n.Failed
	for _, d := range n.Dropped {
		sum += d
	}
	return sum
}

// Merge adds what is known elsewhere, of the same configuration.
func (n *Numbers) Merge(o *Numbers) error {
	if err := n.Report.Merge(o.Report); err != nil {
		return err
	}
	n.Failed += o.Failed
	for why, d := range o.Dropped {
		n.Dropped[why] += d
	}
	n.Champion.Merge(o.Champion)
	n.Candidate.Merge(o.Candidate)
	return nil
}
