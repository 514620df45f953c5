package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/batch/run"
	"sluice/internal/platform/access"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spare"
)

// create checks a file's first rows against a model, and accepts the batch.
func (a *API) create(ctx context.Context, in *NewBatch) (*job.Batch, error) {
	if p, ok := access.From(ctx); !ok || !p.Can(job.Write) {
		return cqrs.Send(ctx, a.bus, job.Submit{}) // which the bus refuses
	}
	name, version := target(in.Model)
	m, err := a.models.Model(name, version)
	if err != nil {
		return nil, err
	}
	from, err := a.rowsOf(ctx, in)
	if err != nil {
		return nil, err
	}
	b := job.Batch{Model: name, ModelVersion: m.Version, Stop: in.OnRowError == "stop", MaxErrorRatio: 1, Metadata: in.Metadata, Output: job.Output{Format: ingest.JSONL}}
	b.ID = aggregate.NewID[job.ID](job.Prefix, uuid.Must(uuid.NewV7()))
	if in.MaxErrorRatio != nil {
		b.MaxErrorRatio = *in.MaxErrorRatio
	}
	if in.DeadlineAt != nil {
		if b.Deadline = in.DeadlineAt.Time; !b.Deadline.After(a.store.Now()) {
			return nil, fault.New(fault.Unprocessable, "deadline_at has passed").WithCode("deadline_passed")
		}
	}
	if o := in.Output; o != nil {
		b.Spec.Keep = o.IncludeInput
		formats(&b.Output, o)
	}
	src := &counted{Source: from.source}
	s, err := a.check(ctx, &b, in, &m, src)
	if err != nil {
		return nil, err
	}
	if err := a.quote(ctx, &b, &m, from.tenant, s.of(&b.File, from.bytes, src)); err != nil {
		return nil, err
	}
	b.Input = job.Object{Key: job.Key(from.tenant, b.ID), Bytes: from.bytes, SHA256: from.sha256}
	kept, err := from.keep(ctx, b.Input.Key)
	if err != nil {
		return nil, err
	}
	b.Input.ETag = kept.ETag
	made, err := cqrs.Send(ctx, a.bus, job.Submit{Batch: b})
	if err != nil && !fault.Of(err).Kind.Retryable() { // else it may have been accepted; the sweep knows
		_ = a.bucket.Delete(context.WithoutCancel(ctx), b.Input.Key)
	}
	return made, err
}

// formats says of what format the parts of the results are, and what is made of them.
// Parts are CSV where nothing else is wanted.
func formats(to *job.Output, o *NewBatchOutput) {
	wanted := o.Formats
	if o.Format != "" {
		wanted = append([]string{o.Format}, wanted...)
	}
	for _, f := range wanted {
		if !slices.Contains(to.Formats, encode.Format(f)) {
			to.Formats = append(to.Formats, encode.Format(f))
		}
	}
	if len(to.Formats) == 1 && (to.Formats[0] == encode.CSV || to.Formats[0] == encode.JSONL) {
		to.Format, to.Formats = ingest.Format(to.Formats[0]), nil
	}
}

// target takes "name", "name:version" or "name@label" apart.
func target(text string) (model, version string) {
	if i := strings.LastIndexAny(text, "@:"); i > 0 {
		return text[:i], text[i+1:]
	}
	return text, ""
}

// check finds out how the file is read and what the model's inputs are made of, and
// tries the first rows, on processors that requests leave: who makes a batch is in no hurry.
func (a *API) check(ctx context.Context, b *job.Batch, in *NewBatch, m *run.Model, src ingest.Source) (s sample, err error) {
	done, err := a.checks.Take(ctx)
	if err != nil {
		return sample{}, err
	}
	defer done()
	if not := a.cpu.Do(ctx, func(cpu *spare.Turn) {
		options := a.options
		options.Yield = func() { cpu.Yield(ctx) }
		s, err = examine(ctx, b, in, m, src, options)
	}); not != nil {
		return sample{}, fault.Of(context.Cause(ctx))
	}
	return s, err
}

// examine does the work of check.
func examine(ctx context.Context, b *job.Batch, in *NewBatch, m *run.Model, src ingest.Source, options ingest.Options) (sample, error) {
	f := ingest.File{Format: ingest.Format(in.Format), Sheet: in.Sheet, Coding: ingest.Coding{Encoding: in.Encoding}}
	if d := in.CSV; d != nil {
		f.Dialect = ingest.Dialect{Delimiter: d.Delimiter, Quote: d.Quote, Header: d.Header, Decimal: d.Decimal}
	}
	named := ingest.Spec{ID: in.RowID, Keep: b.Spec.Keep}
	for _, input := range slices.Sorted(maps.Keys(in.Columns)) {
		named.Inputs = append(named.Inputs, ingest.Input{Name: input, Columns: in.Columns[input]})
	}
	f, err := ingest.Inspect(ctx, src, f, &named, options)
	if err != nil {
		return sample{}, err
	}
	b.File, b.Spec.ID = f, in.RowID
	if b.Spec.Inputs, err = Inputs(&f, in, m); err != nil {
		return sample{}, err
	}
	if f.Format != ingest.JSONL { // of the columns that are there by default
		if f, err = ingest.Inspect(ctx, src, f, &b.Spec, options); err != nil {
			return sample{}, err
		}
	}
	s := run.Schema(b, m)
	if err := s.Check(); err != nil {
		return sample{}, err
	}
	if err := ingest.Vet(ctx, src, f, &b.Spec); err != nil {
		return sample{}, err
	}
	if len(b.Output.Formats) > 0 {
		b.Output.Columns = s
	}
	if b.Output.Format == ingest.CSV {
		if b.Output.Head, err = run.Head(s, b.Output.Format); err != nil {
			return sample{}, err
		}
	}
	return try(ctx, b, src, options)
}

// Inputs says which columns of a file the model's inputs are made of, as a batch would take
// them. Errors: those of columns that do not fit.
func Inputs(f *ingest.File, in *NewBatch, m *run.Model) ([]ingest.Input, error) {
	for name := range in.Columns {
		if !slices.ContainsFunc(m.Inputs, func(p run.Port) bool { return p.Name == name }) {
			return nil, fault.New(fault.Unprocessable, "columns names %q, which is no input of the model", fault.Clip(name, 80)).WithCode("columns_invalid")
		}
	}
	all := make([]ingest.Input, len(m.Inputs))
	for i, p := range m.Inputs {
		width := 1
		for _, n := range p.Shape {
			width *= int(n)
		}
		columns := in.Columns[p.Name]
		if len(columns) == 0 {
			columns = []string{p.Name}
			if rest := others(f, in); len(m.Inputs) == 1 && !slices.Contains(f.Columns, p.Name) && len(rest) == width {
				columns = rest
				if f.Dialect.Guessed {
					return nil, fault.New(fault.Unprocessable, "the first row looks like all others, so that it may name the columns or not: set csv.header, or name the columns").WithCode("header_unknown")
				}
			}
		}
		if len(columns) != 1 && len(columns) != width {
			return nil, fault.New(fault.Unprocessable, "the input %q has %d elements in a row, and columns has %d for it: name as many, or one whose cells are lists", p.Name, width, len(columns)).WithCode("columns_invalid")
		}
		all[i] = ingest.Input{Name: p.Name, Type: p.Type, Width: width, Columns: columns}
	}
	return all, nil
}

// others are the columns that have a name, and are not named otherwise.
func others(f *ingest.File, in *NewBatch) []string {
	return slices.DeleteFunc(slices.Clone(f.Columns), func(c string) bool {
		return c == "" || c == in.RowID || in.Output != nil && slices.Contains(in.Output.IncludeInput, c)
	})
}

// How many rows are tried before a batch is accepted. Where all are wrong further ones are,
// up to these: a row that is larger than what is tried says nothing of the others.
const (
	tried       = 1000
	triedBytes  = 1 << 20
	triedChunks = 8
)

// try reads the first rows, and returns how many they are. They may have errors, unless
// all have, or one is one too many.
func try(ctx context.Context, b *job.Batch, src ingest.Source, options ingest.Options) (sample, error) {
	r, err := ingest.Open(ctx, src, b.File, &b.Spec, b.File.First, options)
	if err != nil {
		return sample{}, err
	}
	defer r.Close()
	var all int
	var wrong []ingest.RowError
	c := new(ingest.Chunk)
	for range triedChunks {
		if err := r.Read(c, ingest.Limit{Rows: tried, Bytes: triedBytes}); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return sample{}, err
		}
		if len(c.Errors) < c.Rows && !(b.Stop && len(c.Errors) > 0) {
			s := sampled(r, c, &b.File)
			s.rows += int64(all)
			return s, nil
		}
		for _, e := range c.Errors {
			e.Row += all
			wrong = append(wrong, e)
		}
		if all += c.Rows; b.Stop || all >= tried {
			break
		}
	}
	return sample{}, Refused(all, wrong)
}

// Refused is the error of a file of which so many rows were tried, and none, or too few, can be used.
func Refused(rows int, wrong []ingest.RowError) error {
	if rows == 0 {
		return fault.New(fault.Unprocessable, "the file has no rows").WithCode("file_empty")
	}
	var details []fault.Detail
	for i := range wrong[:min(len(wrong), job.MaxErrors)] {
		details = append(details, detail(&wrong[i]))
	}
	return fault.New(fault.Unprocessable, "%d of the first %d rows cannot be used", len(wrong), rows).WithCode("rows_invalid_file").WithDetails(details...)
}

// detail says which row is wrong, by its index where the file has no lines, and which column.
func detail(e *ingest.RowError) fault.Detail {
	text := e.Message
	if e.Column != "" {
		text = "column " + fault.Clip(e.Column, 80) + ": " + text
	}
	if e.Line == 0 {
		text = fmt.Sprintf("row %d, from 0: %s", e.Row, text)
	}
	return fault.Detail{Line: int(e.Line), Code: e.Code, Message: text}
}
