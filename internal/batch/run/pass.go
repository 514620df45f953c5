package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
)

// pass is one way of a chunk's rows through a model.
type pass struct {
	batch *job.Batch
	entry *job.Chunk
	model Model
	chunk *ingest.Chunk
	again []int         // the rows that are run, ascending; nil: all
	waits time.Duration // for each part, in all

	parts []part // in the order of rows

	mu     sync.Mutex
	failed []job.RowError
	used   job.Used
}

// part is some rows of the tensors, and what the model made of them.
type part struct {
	first, last int // rows of the tensors
	outputs     []Tensor
}

func newPass(b *job.Batch, entry *job.Chunk, m Model, c *ingest.Chunk, again, twice []int) *pass {
	p := &pass{batch: b, entry: entry, model: m, chunk: c, again: again}
	for _, e := range c.Errors {
		p.fail(e.Row, e.Column, e.Code, e.Message)
	}
	for _, row := range twice {
		if _, bad := slices.BinarySearchFunc(c.Errors, row, func(e ingest.RowError, row int) int { return cmp.Compare(e.Row, row) }); !bad {
			p.fail(row, b.Spec.ID, ingest.CodeDuplicate, "another row before has the same id")
		}
	}
	first := -1
	for n, row := range c.Good {
		_, is := slices.BinarySearch(twice, row)
		wanted := p.wanted(row) && !is
		switch {
		case wanted && first < 0:
			first = n
		case !wanted && first >= 0:
			p.cut(first, n)
			first = -1
		}
	}
	if first >= 0 {
		p.cut(first, len(c.Good))
	}
	return p
}

// ran is how many rows the pass has an outcome for.
func (p *pass) ran() int {
	if p.again == nil {
		return p.chunk.Rows
	}
	return len(p.again)
}

// wanted says whether a row is run.
func (p *pass) wanted(row int) bool {
	if p.again == nil {
		return true
	}
	_, is := slices.BinarySearch(p.again, row)
	return is
}

// cut makes runs of rows that follow each other.
func (p *pass) cut(first, last int) {
	for ; first < last; first += p.model.Best {
		p.parts = append(p.parts, part{first: first, last: min(first+p.model.Best, last)})
	}
}

func (p *pass) fail(row int, column, code, message string) {
	e := job.RowError{Index: p.entry.Begin.Row + int64(row), Column: column, Code: code, Message: fault.Clip(message, 500)}
	if row < len(p.chunk.Lines) {
		e.Line = p.chunk.Lines[row]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = append(p.failed, e)
}

// beside is how many runs of a chunk are asked for at once: the next is there when one
// ends.
const beside = 4

// predict has the model answer all parts.
func (p *pass) predict(ctx context.Context, by Predictor) error {
	runs := pool.New().WithMaxGoroutines(beside).WithContext(ctx).WithCancelOnError().WithFirstError()
	all := p.parts
	p.parts = nil
	done := make([][]part, len(all))
	for i, one := range all {
		runs.Go(func(ctx context.Context) (err error) { done[i], err = p.isolate(ctx, by, one); return err })
	}
	if err := runs.Wait(); err != nil {
		return err
	}
	p.parts = slices.Concat(done...)
	slices.SortFunc(p.failed, func(a, b job.RowError) int { return cmp.Compare(a.Index, b.Index) })
	return nil
}

// isolate runs a part; where the model cannot, it finds the rows that are the reason
// by halves, so that they cost no others.
func (p *pass) isolate(ctx context.Context, by Predictor, one part) ([]part, error) {
	a, err := p.ask(ctx, by, one)
	if err == nil {
		err = fits(a.Outputs, p.model.Outputs, one.last-one.first)
	}
	switch {
	case err == nil:
		p.mu.Lock()
		p.used.Add(a.Used)
		p.mu.Unlock()
		one.outputs = a.Outputs
		return []part{one}, nil
	case ctx.Err() != nil || passing(err):
		return nil, err
	case one.last-one.first == 1:
		p.fail(p.chunk.Good[one.first], "", cmp.Or(fault.CodeOf(err), "row_failed"), fault.Of(err).Text())
		return nil, nil
	}
	middle := (one.first + one.last) / 2
	left, err := p.isolate(ctx, by, part{first: one.first, last: middle})
	if err != nil {
		return nil, err
	}
	right, err := p.isolate(ctx, by, part{first: middle, last: one.last})
	return append(left, right...), err
}

// ask runs a part. One that is refused for now is asked again when the refusal says,
// as often as waits has time for.
func (p *pass) ask(ctx context.Context, by Predictor, one part) (a Answer, err error) {
	const least = 100 * time.Millisecond
	for left := p.waits; ; {
		a, err = by.Predict(ctx, p.batch.Tenant, p.batch.Model, p.batch.ModelVersion, p.inputs(one))
		if err == nil {
			return a, nil
		}
		f := fault.Of(err)
		pause := max(f.RetryAfter, least)
		if f.Kind != fault.Unavailable && f.Kind != fault.Exhausted || pause > left {
			return a, err
		}
		left -= pause
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return a, fault.Wrap(fault.Canceled, ctx.Err(), "the part is not asked for again")
		}
	}
}

// passing says whether an error says nothing of the rows: the same rows may be
// answered later, or elsewhere.
func passing(err error) bool {
	k := fault.Of(err).Kind
	return k.Retryable() || k == fault.NotFound || k == fault.Canceled
}

// inputs are the tensors of a part.
func (p *pass) inputs(one part) []Tensor {
	in := make([]Tensor, len(p.batch.Spec.Inputs))
	for i, s := range p.batch.Spec.Inputs {
		in[i] = Tensor{Name: s.Name, Type: s.Type, Data: p.chunk.Tensors[i].Slice(one.first, one.last), Shape: []int64{int64(one.last - one.first)}}
		for _, port := range p.model.Inputs {
			if port.Name == s.Name {
				in[i].Shape = append(in[i].Shape, port.Shape...)
			}
		}
	}
	return in
}

// fits refuses outputs that do not have the rows, or are not what the model says.
func fits(outputs []Tensor, ports []Port, rows int) error {
	if len(outputs) != len(ports) {
		return fault.New(fault.Internal, "there are %d outputs, and the model has %d", len(outputs), len(ports)).WithCode("output_shape")
	}
	for i, o := range outputs {
		switch {
		case len(o.Shape) == 0 || o.Shape[0] != int64(rows):
			return fault.New(fault.Internal, "the output %s does not have a row for each row of the inputs", o.Name).WithCode("output_shape")
		case o.Type != ports[i].Type:
			return fault.New(fault.Internal, "the output %s is of the type %s, and the model says %s", o.Name, o.Type, ports[i].Type).WithCode("output_type")
		case cellType(ports[i]) != table.JSON && elements(o.Shape[1:]) != 1:
			return fault.New(fault.Internal, "the output %s has %d elements in a row, and the model says one", o.Name, elements(o.Shape[1:])).WithCode("output_shape")
		}
	}
	return nil
}

// errors returns the failed rows as JSON Lines.
func (p *pass) errors() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range p.failed {
		_ = enc.Encode(&p.failed[i]) // it cannot fail
	}
	return b.Bytes()
}

// failedBefore returns which rows of a chunk failed when it was run, nil where it
// was not.
func (t *turn) failedBefore(ctx context.Context, entry *job.Chunk) ([]int, error) {
	if entry.Result.Key == "" {
		return nil, nil
	}
	text, err := t.load(ctx, entry.Errors)
	if err != nil {
		return nil, err
	}
	rows := []int{}
	for line := range bytes.Lines(text) {
		var e job.RowError
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "the failed rows of a chunk cannot be read")
		}
		rows = append(rows, int(e.Index-entry.Begin.Row))
	}
	return rows, nil
}
