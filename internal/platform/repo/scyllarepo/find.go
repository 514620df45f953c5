package scyllarepo

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// idsAtOnce is how many records one statement reads: coordinators do badly with
// many partitions in one.
const idsAtOnce = 20

// Find implements repo.Reader. It follows entries and believes the records that
// they lead to.
func (d *Driver) Find(ctx context.Context, s *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	p, err := planOf(s, q)
	if err != nil || len(p.spans) == 0 || q.Limit <= 0 {
		return nil, err
	}
	m, err := d.merge(ctx, s.Kind, &p, q)
	if err != nil {
		return nil, cql.Translate(ctx, err)
	}
	defer m.close()
	var out []repo.Record
	for examined := 0; len(out) < q.Limit; {
		entries := m.take(q.Limit - len(out))
		if len(entries) == 0 {
			break
		}
		if examined += len(entries); p.residual && examined > d.cfg.MaxExamined {
			return nil, spec.Unsupported("more than %d %s had to be looked at: narrow the first condition", d.cfg.MaxExamined, s.Kind)
		}
		if out, err = d.selected(ctx, s, q, entries, out); err != nil {
			return nil, cql.Translate(ctx, err)
		}
	}
	return out, cql.Translate(ctx, m.err())
}

// selected appends the records that entries lead to, and the query selects.
func (d *Driver) selected(ctx context.Context, s *repo.Schema, q *repo.FindQuery, entries []entry, out []repo.Record) ([]repo.Record, error) {
	states, err := d.load(ctx, s, entries)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		st := states[e.id]
		switch {
		case !st.has(e):
			d.discard([]entry{e}, st.removal(d.now()))
			d.metrics.astray()
		case q.Selects(s, &st.Record):
			out = append(out, st.Record)
		}
	}
	return out, nil
}

// load reads the records of entries, all of one tenant and kind.
func (d *Driver) load(ctx context.Context, schema *repo.Schema, entries []entry) (map[string]*state, error) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.id
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	parts := slices.Collect(slices.Chunk(ids, idsAtOnce))
	found := make([][]*state, len(parts))
	err := cql.Each(len(parts), func(i int) error {
		iter := d.query(ctx, selectStates, entries[0].tenant, entries[0].kind, parts[i]).Iter()
		for {
			st, err := scanState(iterRow(iter))
			if err != nil {
				return iter.Close()
			}
			if st.found {
				if err := d.resolve(&st, schema); err != nil {
					_ = iter.Close()
					return err
				}
			}
			found[i] = append(found[i], &st)
		}
	})
	states := make(map[string]*state, len(ids))
	for _, id := range ids {
		states[id] = &state{}
	}
	for _, st := range slices.Concat(found...) {
		states[st.ID] = st
	}
	return states, err
}

// iterRow makes a scanner of an iterator: it ends with an error.
func iterRow(iter *gocql.Iter) scanner {
	return func(dest ...any) error {
		if iter.Scan(dest...) {
			return nil
		}
		return gocql.ErrNotFound
	}
}

// merged is the entries of a plan in the order of a query, from all partitions
// that hold some.
type merged struct {
	streams []*stream
	compare func(a, b entry) int
}

// stream is the entries of one span in one partition.
type stream struct {
	iter *gocql.Iter
	head entry
	more bool
}

func (s *stream) next() {
	var value []byte
	s.more = s.iter.Scan(&value, &s.head.id)
	s.head.value = string(value)
}

// merge opens the streams of a plan.
func (d *Driver) merge(ctx context.Context, kind string, p *plan, q *repo.FindQuery) (*merged, error) {
	type source struct {
		span
		entry
	}
	var sources []source
	for _, sp := range p.spans {
		for _, live := range []bool{true, false} {
			if !q.Deleted.Sees(!live) {
				continue
			}
			for b := range buckets {
				sources = append(sources, source{sp, entry{tenant: q.Tenant, kind: kind, field: p.field, live: live, bucket: b}})
			}
		}
	}
	m := &merged{streams: make([]*stream, len(sources)), compare: order(q)}
	// A bucket has its share of the page, and a little more as hashes go.
	page := min(q.Limit, q.Limit*3/(2*buckets)+8)
	err := cql.Each(len(sources), func(i int) error {
		iter := d.stretch(ctx, sources[i].entry, sources[i].span, q.Descending).PageSize(page).Iter()
		m.streams[i] = &stream{iter: iter, head: sources[i].entry}
		m.streams[i].next()
		return nil
	})
	return m, err
}

// stretch is the query for the entries of a span in one partition.
func (d *Driver) stretch(ctx context.Context, e entry, s span, descending bool) *gocql.Query {
	text := `SELECT value, id FROM query_entries WHERE tenant = ? AND kind = ? AND field = ? AND live = ? AND bucket = ? AND (value, id) >= (?, ?)`
	args := []any{e.tenant, e.kind, e.field, e.live, e.bucket, []byte(s.from.value), s.from.id}
	if s.closed {
		text += ` AND (value, id) < (?, ?)`
		args = append(args, []byte(s.to.value), s.to.id)
	}
	if descending {
		text += ` ORDER BY value DESC, id DESC`
	}
	return d.query(ctx, text, args...).Prefetch(0)
}

// order compares entries as the query orders what they lead to.
func order(q *repo.FindQuery) func(a, b entry) int {
	return func(a, b entry) int {
		c := strings.Compare(a.id, b.id)
		if q.Order != "" {
			c = cmp.Or(strings.Compare(a.value, b.value), c)
		}
		if q.Descending {
			return -c
		}
		return c
	}
}

// take returns the next entries, at most n.
func (m *merged) take(n int) []entry {
	var out []entry
	for len(out) < n {
		var first *stream
		for _, s := range m.streams {
			if s.more && (first == nil || m.compare(s.head, first.head) < 0) {
				first = s
			}
		}
		if first == nil {
			break
		}
		out = append(out, first.head)
		first.next()
	}
	return out
}

func (m *merged) close() {
	for _, s := range m.streams {
		if s != nil {
			_ = s.iter.Close() // a second time, where err has asked
		}
	}
}

// err returns the first error that ended a stream early.
func (m *merged) err() error {
	for _, s := range m.streams {
		if !s.more {
			if err := s.iter.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Summarise implements repo.Reader: it refuses.
func (d *Driver) Summarise(context.Context, *repo.Schema, *repo.SummaryQuery) ([]spec.Group, error) {
	return nil, spec.Unsupported("it keeps no sums and counts")
}
