package exports

import (
	"context"
	"errors"
	"io"

	"sluice/internal/batch/table"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// chunkRows is how many rows a chunk has, about.
const chunkRows = 2000

// scan goes through a kind of aggregates, in the order of a query.
type scan[ID ~string, A any] struct {
	kind   repo.Kind[ID, A]
	from   repo.Reading
	query  spec.Query[A]
	schema table.Schema
	keep   func(*A) bool // nil keeps all that the query selects
	row    func(*A, *table.Chunk)

	begun bool
	next  string      // the cursor of the page after the present one; empty where there was none
	items []A         // of the present page, not gone past yet
	past  map[ID]bool // of the present page, gone past
	seen  int64
}

// Schema implements table.Reader.
func (s *scan[ID, A]) Schema() table.Schema { return s.schema }

// Seen implements export.Scan.
func (s *scan[ID, A]) Seen() int64 { return s.seen }

// Read implements export.Scan.
func (s *scan[ID, A]) Read(ctx context.Context, into *table.Chunk) error {
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
		if s.keep == nil || s.keep(a) {
			s.row(a, into)
		}
		s.past[s.kind.Root(a).ID] = true
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
func (s *scan[ID, A]) fetch(ctx context.Context) error {
	if !s.begun || s.next != "" {
		s.query.After, s.past, s.begun = s.next, map[ID]bool{}, true
	}
	s.query.Limit = spec.MaxLimit
	page, err := s.kind.Find(ctx, s.from, s.query)
	if err != nil {
		return err
	}
	s.next = page.Next
	for _, a := range page.Items {
		if !s.past[s.kind.Root(&a).ID] {
			s.items = append(s.items, a)
		}
	}
	return nil
}

// Count implements export.Scan. Where the store cannot count, it goes through all.
func (s *scan[ID, A]) Count(ctx context.Context) (int64, error) {
	n, err := s.kind.Count(ctx, s.from, s.query.Where)
	if !errors.Is(err, spec.ErrUnsupported) {
		return n, err
	}
	n = 0
	for _, err := range s.kind.All(ctx, s.from, spec.Query[A]{Where: s.query.Where, Order: s.query.Order}) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}
