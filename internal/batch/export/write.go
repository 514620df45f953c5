package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/internal/batch/table"
	"sluice/internal/batch/table/sorter"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// run is one attempt at an export.
type run struct {
	service *Service
	scope   repo.Scope
	id      ID
	attempt int
	request Request
	alive   func(context.Context) error

	plan     *plan
	scan     Scan
	sorter   *sorter.Sorter // nil where rows stay as they come
	progress Progress
	parts    []Part
	folder   string
	open     *part     // nil where no part is open
	told     time.Time // when the store was last told of the progress
}

// tellInterval is how often an attempt says how far it is.
const tellInterval = 2 * time.Second

// do writes all parts and publishes them.
func (r *run) do(ctx context.Context) (err error) {
	s := r.service
	if r.plan, err = r.request.plan(s.datasets); err != nil {
		return err
	}
	if r.scan, err = r.plan.dataset.Open(ctx, r.scope.Tenant, r.plan.slice); err != nil {
		return err
	}
	if r.progress.Total, err = r.scan.Count(ctx); err != nil {
		return err
	}
	r.folder = strings.Join([]string{r.scope.Tenant, Folder, string(r.id), repo.RandomName()}, "/")
	r.told = s.store.Now()
	if len(r.plan.sort) > 0 {
		r.sorter = sorter.New(r.plan.schema, r.plan.sort, s.cfg.Sort)
		defer r.sorter.Close()
	}
	if err := r.write(ctx); err != nil {
		if r.open != nil {
			r.open.abort(err)
		}
		return err
	}
	_, err = s.update(ctx, r.scope, r.id, func(e *Export, now time.Time) error {
		return e.Finish(r.attempt, r.progress, r.parts, now, s.cfg.Keep)
	})
	return err
}

// write writes all rows, and makes sure that they are all.
func (r *run) write(ctx context.Context) error {
	if err := r.begin(ctx); err != nil { // also an export without rows has a file, with its header
		return err
	}
	if err := r.copy(ctx); err != nil {
		return err
	}
	// Whatever the store counts now was gone past, or comes now.
	count, err := r.scan.Count(ctx)
	if err != nil {
		return err
	}
	if err := r.copy(ctx); err != nil {
		return err
	}
	if r.scan.Seen() < count {
		return fault.New(fault.Unavailable, "the store counts %d records of %s, and %d were read", count, r.plan.dataset.Name, r.scan.Seen()).WithCode("export_short")
	}
	if r.sorter != nil {
		if err := r.copySorted(ctx); err != nil {
			return err
		}
	}
	return r.end()
}

// copy writes rows until the scan comes to an end.
func (r *run) copy(ctx context.Context) error {
	rows := readAhead(ctx, r.scan, r.plan)
	defer rows.stop()
	for {
		f := rows.next(ctx)
		if f.err == nil || errors.Is(f.err, io.EOF) {
			r.progress.Scanned = f.seen
		}
		switch {
		case errors.Is(f.err, io.EOF):
			return nil
		case f.err != nil:
			return f.err
		}
		err := r.take(ctx, f.rows)
		if err == nil {
			err = r.tell(ctx)
		}
		if err != nil {
			return err
		}
		rows.done(f)
	}
}

// take writes rows, or keeps them to be sorted.
func (r *run) take(ctx context.Context, rows *table.Chunk) error {
	if r.sorter != nil {
		return r.sorter.Add(ctx, rows)
	}
	return r.put(ctx, rows)
}

// copySorted writes rows in their order, once all are there.
func (r *run) copySorted(ctx context.Context) error {
	rows := table.NewChunk(r.plan.schema)
	for {
		err := r.sorter.Read(rows)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.put(ctx, rows)
		}
		if err == nil {
			err = r.tell(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// put writes rows, into the next file where the present one is long enough.
func (r *run) put(ctx context.Context, rows *table.Chunk) error {
	if r.open.Bytes() >= r.service.cfg.PartSize {
		if err := r.end(); err != nil {
			return err
		}
		if err := r.begin(ctx); err != nil {
			return err
		}
	}
	if err := r.open.writer.Write(rows); err != nil {
		return r.open.why(err)
	}
	r.open.Rows += int64(rows.Rows())
	r.progress.Rows += int64(rows.Rows())
	return nil
}

// tell says now and then how far the attempt is; that it is not wanted any more it
// learns here.
func (r *run) tell(ctx context.Context) error {
	s := r.service
	if now := s.store.Now(); now.Sub(r.told) < tellInterval {
		return nil
	}
	p := r.progress
	p.Bytes += r.open.Bytes()
	_, err := s.update(ctx, r.scope, r.id, func(e *Export, now time.Time) error { return e.Advance(r.attempt, p, r.parts, now) })
	if errors.Is(err, repo.ErrNotFound) {
		return errLost
	}
	if err == nil {
		r.told = s.store.Now()
	}
	return err
}

// begin opens the next part.
func (r *run) begin(ctx context.Context) (err error) {
	name := fmt.Sprintf("%s-%05d%s", r.request.Dataset, len(r.parts)+1, r.plan.options.Extension())
	r.open, err = newPart(ctx, r.service.bucket, r.folder+"/"+name, r.plan)
	return err
}

// end closes the open part.
func (r *run) end() error {
	p, err := r.open.close()
	r.open = nil
	if err == nil {
		r.parts = append(r.parts, p)
		r.progress.Bytes += p.Bytes
	}
	return err
}

// whole says whether all rows and columns of the dataset are wanted, as they are.
func (p *plan) whole() bool {
	for i, column := range p.columns {
		if i != column {
			return false
		}
	}
	return p.keep == nil && len(p.columns) == len(p.dataset.Schema)
}

// project adds the wanted rows and columns of a dataset's chunk to another.
func (p *plan) project(from, to *table.Chunk) {
	if p.keep == nil {
		for i, column := range p.columns {
			to.Column(i).AppendColumn(from.Column(column))
		}
		return
	}
	for row := range from.Rows() {
		if !p.keep(from, row) {
			continue
		}
		for i, column := range p.columns {
			to.Column(i).AppendCell(from.Column(column), row)
		}
	}
}
