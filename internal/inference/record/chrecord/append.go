package chrecord

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/record"
)

// event is what an entry is known by.
type event struct {
	tenant  string
	id      record.ID
	attempt int
}

// The text of a statement is bounded: chunk is how many expressions it has at most, and
// together how many ids in one literal.
const (
	chunk    = 2000
	together = 4096
)

// Append implements record.Appender.
func (s *Store) Append(ctx context.Context, entries []*record.Entry) error {
	for _, e := range entries {
		if err := e.Check(); err != nil {
			return err
		}
	}
	known := map[event]bool{}
	for some := range slices.Chunk(entries, together) {
		if err := s.known(ctx, some, known); err != nil {
			return err
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(entries), func(e *record.Entry) bool {
		k := event{e.Tenant, e.ID, e.Attempt}
		was := known[k]
		known[k] = true
		return was
	})
	if len(fresh) == 0 {
		return nil
	}
	if err := s.keep(ctx, fresh); err != nil {
		return err
	}
	if err := s.insert(ctx, fresh); err != nil {
		return err
	}
	return s.shape(ctx, fresh)
}

// known finds those that are there. The ids are one literal, of which the server makes a
// set: of thousands it would take seconds to read the expressions.
func (s *Store) known(ctx context.Context, entries []*record.Entry, known map[event]bool) error {
	from, to := entries[0].At, entries[0].At
	var tenants []string
	ids := make([]byte, 0, len(entries)*len(record.ID{}))
	for _, e := range entries {
		if e.At.Before(from) {
			from = e.At
		}
		if e.At.After(to) {
			to = e.At
		}
		if t := literal(e.Tenant); !slices.Contains(tenants, t) {
			tenants = append(tenants, t)
		}
		ids = append(ids, e.ID[:]...)
	}
	sql := "SELECT tenant, id, attempt FROM entries WHERE tenant IN (" + strings.Join(tenants, ", ") + ") AND at BETWEEN " + timeLiteral(from) + " AND " + timeLiteral(to) +
		" AND id IN (SELECT toFixedString(substring(" + literal(string(ids)) + ", number * 16 + 1, 16), 16) FROM numbers(" + strconv.Itoa(len(entries)) + "))"
	return s.rows(ctx, sql, func(r driver.Rows) error {
		var tenant, id string
		var attempt uint32
		if err := r.Scan(&tenant, &id, &attempt); err != nil {
			return err
		}
		known[event{tenant, idOf(id), int(attempt)}] = true
		return nil
	})
}

func idOf(s string) (id record.ID) { copy(id[:], s); return id }

// insert adds entries, column by column.
func (s *Store) insert(ctx context.Context, entries []*record.Entry) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithColumnNamesAndTypes(entryTypes)) // else the server is asked for them each time
	return s.batch(ctx, insertEntries, func(b driver.Batch) error {
		for i := range entryColumns {
			if err := b.Column(i).Append(entryColumns[i].of(entries)); err != nil {
				return err
			}
		}
		return nil
	})
}
