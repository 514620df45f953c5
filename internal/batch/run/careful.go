package run

import (
	"context"

	"sluice/internal/batch/job"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spare"
)

// CodeCrashed is the code of rows that are not run because they end the process.
const CodeCrashed = "model_crashed"

// everyone is more than the steps that a process is at.
const everyone = 1 << 20

// enter has a step begin beside others, or where alone is set when no other is under way
// in the process, and none begins until leave is called: what ends the process then is not
// taken for what another step has noted. Nothing is claimed while it waits.
func (w *Worker) enter(ctx context.Context, alone bool) (leave func(), err error) {
	n := int64(1)
	if alone {
		n = everyone
	}
	if err := w.steps.Acquire(ctx, n); err != nil {
		return nil, fault.Wrap(fault.Canceled, err, "the step is not begun")
	}
	return func() { w.steps.Release(n) }, nil
}

// deadly returns the rows of the chunk that are not run, whose errors it says.
func (p *pass) deadly() map[int]bool {
	if p.entry.Danger == nil {
		return nil
	}
	rows := map[int]bool{}
	for _, row := range p.entry.Danger.Deadly {
		if rows[row] = true; p.wanted(row) {
			p.fail(row, "", CodeCrashed, "the process that ran the row with the model ended, each time: it is not run any more")
		}
	}
	return rows
}

// careful has the model answer one part after the other, each behind a note of which it
// is. The parts are those of any other pass, so that answers are the same; what is
// suspected to end the process is run row by row.
func (p *pass) careful(ctx context.Context, by Predictor, note func(context.Context, job.Rows) error) error {
	var done []part
	for _, one := range p.suspected() {
		first, last := p.chunk.Good[one.rows[0]], p.chunk.Good[one.rows[len(one.rows)-1]]
		if err := note(ctx, job.Rows{From: first, To: last + 1}); err != nil {
			return err
		}
		var answered []part
		var err error
		if not := p.cpu.Do(ctx, func(cpu *spare.Turn) { answered, err = p.isolate(ctx, by, cpu, one) }); not != nil {
			return fault.Wrap(fault.Canceled, not, "the rows are not run")
		}
		if err != nil {
			return err
		}
		done = append(done, answered...)
	}
	if err := note(ctx, job.Rows{}); err != nil { // what ends the process from here on is no row
		return err
	}
	p.parts = done
	p.settle()
	return nil
}

// suspected returns the parts, of which those with suspected rows are cut into rows.
func (p *pass) suspected() (parts []part) {
	suspect := p.entry.Danger.Suspect
	for rows := p.next(); len(rows) > 0; rows = p.next() {
		one := part{rows: rows}
		first, last := p.chunk.Good[one.rows[0]], p.chunk.Good[one.rows[len(one.rows)-1]]
		if last < suspect.From || first >= suspect.To {
			parts = append(parts, one)
			continue
		}
		for i := range one.rows {
			parts = append(parts, part{rows: one.rows[i : i+1]})
		}
	}
	return parts
}
