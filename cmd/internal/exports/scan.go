package exports

import (
	"context"
	"errors"
	"io"
	"time"

	"sluice/internal/batch/export"
	"sluice/internal/batch/table"
	"sluice/internal/platform/eventstore"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// chunkRows is how many rows a chunk has, about.
const chunkRows = 2000

// scan goes through things page by page, in an order that does not change.
type scan[A any] struct {
	schema table.Schema
	// page fetches what is behind a cursor, and the cursor of the page after it;
	// empty where there is none yet.
	page  func(ctx context.Context, after string) ([]A, string, error)
	id    func(*A) string
	count func(ctx context.Context) (int64, error) // nil goes through all
	// row adds what a thing has in the slice, which may be nothing.
	row func(ctx context.Context, a *A, into *table.Chunk) error

	begun bool
	after string          // of the present page
	next  string          // of the page after it
	items []A             // of the present page, not gone past yet
	past  map[string]bool // of the present page, gone past
	seen  int64
}

// Schema implements table.Reader.
func (s *scan[A]) Schema() table.Schema { return s.schema }

// Seen implements export.Scan.
func (s *scan[A]) Seen() int64 { return s.seen }

// Read implements export.Scan.
func (s *scan[A]) Read(ctx context.Context, into *table.Chunk) error {
	into.Reset()
	before := s.seen
	for into.Rows() < chunkRows && s.seen-before < 10*chunkRows {
		if len(s.items) == 0 {
			if err := s.fetch(ctx); err != nil {
				return err
			}
			if len(s.items) == 0 {
				break
			}
		}
		a := &s.items[0]
		if err := s.row(ctx, a, into); err != nil {
			return err
		}
		s.past[s.id(a)] = true
		s.items = s.items[1:]
		s.seen++
	}
	if s.seen == before {
		return io.EOF
	}
	return nil
}

// fetch gets the next page, or, behind the last, that one again, for what has come
// since.
func (s *scan[A]) fetch(ctx context.Context) error {
	if !s.begun || s.next != "" {
		s.after, s.past, s.begun = s.next, map[string]bool{}, true
	}
	page, next, err := s.page(ctx, s.after)
	if err != nil {
		return err
	}
	s.next = next
	for _, a := range page {
		if !s.past[s.id(&a)] {
			s.items = append(s.items, a)
		}
	}
	return nil
}

// Count implements export.Scan. Where the store cannot count, it goes through all.
func (s *scan[A]) Count(ctx context.Context) (n int64, err error) {
	if s.count != nil {
		if n, err = s.count(ctx); !errors.Is(err, spec.ErrUnsupported) {
			return n, err
		}
		n = 0
	}
	for after, more := "", true; more; more = after != "" {
		page, next, err := s.page(ctx, after)
		if err != nil {
			return 0, err
		}
		n, after = n+int64(len(page)), next
	}
	return n, nil
}

// aggregates scans a kind, in the order of a query.
func aggregates[ID ~string, A any](kind repo.Kind[ID, A], from repo.Reading, query spec.Query[A], schema table.Schema, keep func(*A) bool, row func(*A, *table.Chunk)) export.Scan {
	return &scan[A]{
		schema: schema,
		page: func(ctx context.Context, after string) ([]A, string, error) {
			query.After, query.Limit = after, spec.MaxLimit
			page, err := kind.Find(ctx, from, query)
			return page.Items, page.Next, err
		},
		id:    func(a *A) string { return string(kind.Root(a).ID) },
		count: func(ctx context.Context) (int64, error) { return kind.Count(ctx, from, query.Where) },
		row: func(_ context.Context, a *A, into *table.Chunk) error {
			if keep == nil || keep(a) {
				row(a, into)
			}
			return nil
		},
	}
}

// past is an event-sourced aggregate as it was at a time.
type past[S any] struct {
	ID             string
	Began, Changed time.Time // the latter as far as that time
	State          S
}

// sourced scans event-sourced aggregates as they were at the slice's AsOf: those that
// began in its range.
func sourced[ID ~string, S any](source eventstore.Source[ID, S], from repo.Reading, s export.Slice, schema table.Schema, row func(past[S], *table.Chunk)) export.Scan {
	return &scan[eventstore.Loaded[ID, S]]{
		schema: schema,
		page: func(ctx context.Context, after string) ([]eventstore.Loaded[ID, S], string, error) {
			page, err := source.Find(ctx, from, spec.Query[S]{After: after, Limit: spec.MaxLimit})
			return page.Items, page.Next, err
		},
		id: func(a *eventstore.Loaded[ID, S]) string { return string(a.ID) },
		row: func(ctx context.Context, a *eventstore.Loaded[ID, S], into *table.Chunk) error {
			if !a.CreatedAt.Before(s.AsOf) || !s.Holds(a.CreatedAt) {
				return nil
			}
			was := past[S]{ID: string(a.ID), Began: a.CreatedAt}
			for e, err := range source.History(ctx, from, a.ID, 0) {
				if err != nil {
					return err
				}
				if !e.Time.Before(s.AsOf) {
					break
				}
				source.Apply(&was.State, e.Event, e.Time)
				was.Changed = e.Time
			}
			row(was, into)
			return nil
		},
	}
}

// row appends the cells of a row, from the first column on.
type row struct {
	c *table.Chunk
	i int
}

func (r *row) next() *table.Column {
	r.i++
	return r.c.Column(r.i - 1)
}

func (r *row) text(v string) *row   { r.next().AppendString(v); return r }
func (r *row) int(v int64) *row     { r.next().AppendInt(v); return r }
func (r *row) float(v float64) *row { r.next().AppendFloat(v); return r }
func (r *row) bool(v bool) *row     { r.next().AppendBool(v); return r }

// some is null for an empty text.
func (r *row) some(v string) *row {
	if v == "" {
		r.next().AppendNull()
		return r
	}
	return r.text(v)
}

// time is null for the zero time.
func (r *row) time(v time.Time) *row {
	if v.IsZero() {
		r.next().AppendNull()
		return r
	}
	return r.int(v.UnixMicro())
}
