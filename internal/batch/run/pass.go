package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spare"
)

// pass is one way of a chunk's rows through a model. The chunk's rows are told from
// those of its tensors, which only good rows have, by what they are called: row and n.
type pass struct {
	batch *job.Batch
	entry *job.Chunk
	model Model
	chunk *ingest.Chunk
	again []int         // the rows that are run, ascending; nil: all
	waits time.Duration // for each part, in all
	cpu   *spare.Processors

	todo   []int   // the rows of the tensors that get an answer, ascending
	same   []int32 // for each row of the tensors the first one that equals it and is run for it; nil: all differ
	reused int     // rows that others were run for
	places []place // for each row of the tensors where its answer is

	mu     sync.Mutex
	run    []int  // rows of the tensors that no part has yet
	parts  []part // that the model has answered, in any order
	failed []job.RowError
	wrong  map[int]*fault.Error // rows of the tensors that the model cannot answer
	used   job.Used
}

// part is some rows of the tensors, ascending, and what the model made of them.
type part struct {
	rows    []int
	outputs []output
}

// place is a row of a part.
type place struct{ part, row int32 }

// nowhere is the place of an answer that there is not.
var nowhere = place{-1, -1}

func newPass(b *job.Batch, entry *job.Chunk, m Model, c *ingest.Chunk, again, twice []int) *pass {
	p := &pass{batch: b, entry: entry, model: m, chunk: c, again: again, wrong: map[int]*fault.Error{}}
	for _, e := range c.Errors {
		p.fail(e.Row, e.Column, e.Code, e.Message)
	}
	for _, row := range twice {
		if _, bad := slices.BinarySearchFunc(c.Errors, row, func(e ingest.RowError, row int) int { return cmp.Compare(e.Row, row) }); !bad {
			p.fail(row, b.Spec.ID, ingest.CodeDuplicate, "another row before has the same id")
		}
	}
	p.todo = make([]int, 0, len(c.Good))
	deadly := p.deadly()
	for n, row := range c.Good {
		if _, is := slices.BinarySearch(twice, row); p.wanted(row) && !is && !deadly[row] {
			p.todo = append(p.todo, n)
		}
	}
	p.run = p.todo
	if m.Same {
		p.run = p.collapse()
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

func (p *pass) fail(row int, column, code, message string) {
	e := job.RowError{Index: p.entry.Begin.Row + int64(row), Column: column, Code: code, Message: fault.Clip(message, 500)}
	if row < len(p.chunk.Lines) {
		e.Line = p.chunk.Lines[row]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = append(p.failed, e)
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
