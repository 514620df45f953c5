package run

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sourcegraph/conc/pool"

	"sluice/internal/batch/job"
	"sluice/internal/batch/table"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/spare"
)

// predict has the model answer all parts. As many are asked for at a time as there are processors, of which each takes a
// turn: with more of them the model's runs are handed from thread to thread, which takes longer than a run of few rows.
func (p *pass) predict(ctx context.Context, by Predictor) error {
	runs := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for range p.cpu.Cores() {
		runs.Go(func(ctx context.Context) (err error) {
			if not := p.cpu.Do(ctx, func(cpu *spare.Turn) { err = p.answer(ctx, by, cpu) }); not != nil {
				return fault.Wrap(fault.Canceled, not, "the rows are not run")
			}
			return err
		})
	}
	if err := runs.Wait(); err != nil {
		return err
	}
	p.settle()
	return nil
}

// answer has the model answer one part after the other until there are no more.
func (p *pass) answer(ctx context.Context, by Predictor, cpu *spare.Turn) error {
	for rows := p.next(); len(rows) > 0; rows = p.next() {
		done, err := p.isolate(ctx, by, cpu, part{rows: rows})
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.parts = append(p.parts, done...)
		p.mu.Unlock()
		cpu.Yield(ctx)
	}
	return nil
}

// next returns the rows of the next part.
func (p *pass) next() []int {
	n := max(cmp.Or(p.batch.RunRows, p.model.Best), 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.run))
	rows := p.run[:n:n]
	p.run = p.run[n:]
	return rows
}

// settle says of each row where its answer is, or why there is none.
func (p *pass) settle() {
	p.places = slices.Repeat([]place{nowhere}, len(p.chunk.Good))
	for i := range p.parts {
		for at, n := range p.parts[i].rows {
			p.places[n] = place{int32(i), int32(at)}
		}
	}
	for _, n := range p.todo {
		first := n
		if p.same != nil {
			first = int(p.same[n])
		}
		if f := p.wrong[first]; f != nil {
			p.fail(p.chunk.Good[n], "", cmp.Or(f.Code, "row_failed"), f.Text())
		}
		p.places[n] = p.places[first]
	}
	slices.SortFunc(p.failed, func(a, b job.RowError) int { return cmp.Compare(a.Index, b.Index) })
}

// isolate runs a part; where the model cannot, it finds the rows that are the reason
// by halves, so that they cost no others.
func (p *pass) isolate(ctx context.Context, by Predictor, cpu *spare.Turn, one part) ([]part, error) {
	a, err := p.ask(ctx, by, cpu, one)
	if err == nil {
		err = fits(a.Outputs, p.model.Outputs, len(one.rows))
	}
	if err == nil {
		one.outputs, err = indexed(a.Outputs, len(one.rows))
	}
	switch {
	case err == nil:
		p.mu.Lock()
		p.used.Add(a.Used)
		p.mu.Unlock()
		return []part{one}, nil
	case ctx.Err() != nil || passing(err):
		return nil, err
	case len(one.rows) == 1:
		p.mu.Lock()
		p.wrong[one.rows[0]] = fault.Of(err)
		p.mu.Unlock()
		return nil, nil
	}
	middle := len(one.rows) / 2
	left, err := p.isolate(ctx, by, cpu, part{rows: one.rows[:middle]})
	if err != nil {
		return nil, err
	}
	right, err := p.isolate(ctx, by, cpu, part{rows: one.rows[middle:]})
	return append(left, right...), err
}

// ask runs a part. One that is refused for now is asked again when the refusal says,
// as often as waits has time for.
func (p *pass) ask(ctx context.Context, by Predictor, cpu *spare.Turn, one part) (a Answer, err error) {
	const least = 100 * time.Millisecond
	for left := p.waits; ; {
		ask := Ask{Tenant: p.batch.Tenant, Model: p.batch.Model, Version: p.batch.ModelVersion, AsOf: p.batch.CreatedAt, Inputs: p.inputs(one)}
		cpu.Lend(ctx, func(ctx context.Context) { // who waits for others' runs has no turn meanwhile
			a, err = by.Predict(ctx, ask)
		})
		if err == nil {
			return a, nil
		}
		f := fault.Of(err)
		wait := max(f.RetryAfter, least)
		if f.Kind != fault.Unavailable && f.Kind != fault.Exhausted || wait > left {
			return a, err
		}
		left -= wait
		waited := false
		if cpu.Rest(ctx, func() { waited = pause.For(ctx, wait) }); !waited {
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

// inputs are the tensors of a part: views of the chunk's, where its rows follow each
// other.
func (p *pass) inputs(one part) []Tensor {
	in := make([]Tensor, len(p.batch.Spec.Inputs))
	first, last := one.rows[0], one.rows[len(one.rows)-1]+1
	for i, s := range p.batch.Spec.Inputs {
		from := &p.chunk.Tensors[i]
		in[i] = Tensor{Name: s.Name, Type: s.Type, Shape: []int64{int64(len(one.rows))}}
		if last-first == len(one.rows) {
			in[i].Data = from.Slice(first, last)
		} else {
			for _, n := range one.rows {
				in[i].Data = append(in[i].Data, from.Slice(n, n+1)...)
			}
		}
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
