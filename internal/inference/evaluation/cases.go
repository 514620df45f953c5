package evaluation

import (
	"context"
	"hash/fnv"
	"math"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
)

// Skip says why a case, or a row of one, was not compared.
type Skip string

// The reasons.
const (
	NoContent   Skip = "no_content"     // the log has not kept its tensors
	NoInputs    Skip = "inputs_missing" // it has not kept all inputs of the candidate
	NoOutputs   Skip = "no_outputs"     // it has not kept the answer
	Masked      Skip = "altered"        // inputs or outputs were masked or hashed: the logged answer is to others, or not there
	BadRow      Skip = "row_invalid"    // the row of the file cannot be read
	NoBaseline  Skip = "baseline_failed"
	TooLarge    Skip = "too_large" // more elements than are compared of an output
	NoRows      Skip = "no_rows"
	Unavailable Skip = "content_invalid" // what was kept cannot be read
)

// Case is a request that is asked again.
type Case struct {
	Name    string    // as the prediction log or the file has it
	At      time.Time // when it was asked; zero for rows of files
	Rows    int64
	Inputs  []tensor.Tensor
	Outputs []tensor.Tensor   // what was answered; nil where nobody has
	Took    time.Duration     // the answer, in its run; 0 where that is not known
	Values  map[string]string // that segments are told apart by
	Skip    Skip              // why it is not asked; empty where it is
	Altered bool              // some inputs are not what was asked, but what a policy has left of them
}

// bytes is about how much memory the case takes.
func (c *Case) bytes() (n int64) {
	for _, tensors := range [][]tensor.Tensor{c.Inputs, c.Outputs} {
		for i := range tensors {
			n += int64(len(tensors[i].Data))
		}
	}
	return n + 256
}

// Cases goes through what is asked, in an order that does not change.
type Cases interface {
	// Read returns cases behind a cursor, empty for the first, and the cursor behind them,
	// empty behind the last. They may be fewer than most, none even, and are about so many bytes
	// at most, unless one is larger. Where they end depends on nothing else.
	Read(ctx context.Context, after string, most int, bytes int64) (cases []Case, next string, err error)
	// Close gives back what reading takes.
	Close() error
}

// Log is what evaluations take of record.Store.
type Log interface {
	Find(ctx context.Context, q record.Query) ([]record.Entry, error)
}

// logPage is how many entries are read at once, with their tensors, of which each has a
// megabyte at most.
const logPage = 64

// maxPages is how many pages are read for a chunk at most, however few of their entries are
// among the sample: between chunks it is seen whether the evaluation takes too long.
const maxPages = 256

// logged goes through the predictions of a log.
type logged struct {
	log    Log
	query  record.Query
	share  uint64
	inputs []string // that the candidate takes
	answer bool     // the logged answer is wanted
}

func newLogged(log Log, tenant string, r *Request, candidate *Served) *logged {
	c := &logged{log: log, answer: r.Baseline == nil, share: math.MaxUint64, query: record.Query{
		Filter:   record.Filter{Tenant: tenant, From: r.Logged.From, To: r.Logged.To, Model: r.Model, Version: r.Logged.Version, Experiment: r.Logged.Experiment, Arm: r.Logged.Arm},
		Outcomes: []record.Outcome{record.Succeeded}, Content: true, Forward: true,
	}}
	if r.Logged.Sample < 1 {
		c.share = uint64(r.Logged.Sample * math.MaxUint64)
	}
	for _, p := range r.inputs(candidate) {
		c.inputs = append(c.inputs, p.Name)
	}
	return c
}

// Read implements Cases.
func (c *logged) Read(ctx context.Context, after string, most int, bytes int64) (cases []Case, next string, err error) {
	q := c.query
	if after != "" {
		if q.After, err = record.ParsePlace(after); err != nil {
			return nil, "", err
		}
	}
	taken := int64(0)
	for pages := 0; pages < maxPages && len(cases) < most && taken < bytes; pages++ {
		q.Limit = min(logPage, most-len(cases))
		page, err := c.log.Find(ctx, q)
		if err != nil {
			return nil, "", err
		}
		for i := range page {
			if e := &page[i]; !e.Shadow && c.sampled(e.ID) { // what nobody waited for was asked by somebody else
				one := c.caseOf(e)
				taken += one.bytes()
				cases = append(cases, one)
			}
		}
		if len(page) < q.Limit {
			return cases, "", nil
		}
		q.After = page[len(page)-1].Place()
		next = q.After.String()
	}
	return cases, next, nil
}

// Close implements Cases.
func (c *logged) Close() error { return nil }

// sampled says whether a prediction is among the sample: the same each time.
func (c *logged) sampled(id record.ID) bool {
	if c.share == math.MaxUint64 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write(id[:]) // never fails
	// FNV's high bits vary little where ids differ in few bytes.
	return h.Sum64()*0x9e3779b97f4a7c15 <= c.share
}

// caseOf makes a case of an entry.
func (c *logged) caseOf(e *record.Entry) Case {
	out := Case{Name: e.ID.String(), At: e.At, Rows: int64(e.Rows), Took: e.Latency.Infer, Values: map[string]string{byVersion: e.Version, byArm: e.Arm, byExperiment: e.Experiment}}
	if len(e.Content) == 0 {
		out.Skip = NoContent
		return out
	}
	if record.CheckContent(e.Content) != nil {
		out.Skip = Unavailable
		return out
	}
	for side, t := range record.Tensors(e.Content) {
		switch side {
		case record.Input:
			out.Inputs = append(out.Inputs, t)
		case record.Output:
			out.Outputs = append(out.Outputs, t)
		case record.Feature: // since when the inputs were true, which no model is asked with
		}
	}
	inputs, outputs := record.Altered(e.Content)
	out.Altered = inputs
	switch {
	case !c.complete(out.Inputs):
		out.Skip = NoInputs
	case c.answer && len(out.Outputs) == 0:
		out.Skip = NoOutputs
	case c.answer && (inputs || outputs):
		out.Skip = Masked
	case out.Rows < 1:
		out.Skip = NoRows
	}
	if !c.answer {
		out.Outputs = nil
	}
	return out
}

// complete says whether these are the candidate's inputs.
func (c *logged) complete(inputs []tensor.Tensor) bool {
	for _, name := range c.inputs {
		if named(inputs, name) == nil {
			return false
		}
	}
	return true
}

func named(tensors []tensor.Tensor, name string) *tensor.Tensor {
	for i := range tensors {
		if tensors[i].Name == name {
			return &tensors[i]
		}
	}
	return nil
}
