package sqliterecord

import (
	"context"
	"slices"
	"time"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// put keeps the tensors of an entry, if there are any.
func (s *Store) put(tenant int64, e *record.Entry) error {
	if len(e.Content) == 0 {
		return nil
	}
	return s.conn.Exec(sqlite.New("INSERT INTO contents VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt), e.ContentUntil.UnixMilli(), e.Content))
}

// shape adds to what a minute's numbers look like.
func (s *Store) shape(series int64, minute int64, name string, sum *drift.Sketch) error {
	err := s.conn.Query(context.Background(), sqlite.New("SELECT sketch FROM shapes WHERE series = ? AND minute = ? AND name = ?", series, minute, name), func(row []sqlite.Value) error {
		r := reader{row}
		before := new(drift.Sketch)
		if err := before.UnmarshalBinary(r.bytes()); err != nil {
			return err
		}
		sum.Merge(before)
		return nil
	})
	if err != nil {
		return err
	}
	packed, err := sum.MarshalBinary()
	if err != nil {
		return err
	}
	return s.conn.Exec(sqlite.New("INSERT OR REPLACE INTO shapes VALUES (?, ?, ?, ?)", series, minute, name, packed))
}

// Shapes implements record.Store.
func (s *Store) Shapes(ctx context.Context, f record.Filter) (record.Shapes, error) {
	out := record.Shapes{}
	q := new(query)
	q.add("SELECT arm, name, sketch FROM series CROSS JOIN shapes ON series = no WHERE by_rule = 0 AND shadow = 0")
	q.named(&f)
	q.between("minute", &f, ceiling)
	err := s.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		r := reader{row}
		arm, name, one := r.text(), r.text(), new(drift.Sketch)
		if err := one.UnmarshalBinary(r.bytes()); err != nil {
			return err
		}
		out.Add(arm, name, one)
		return nil
	})
	return out, err
}

// forget removes tensors whose time is over.
func (s *Store) forget(ctx context.Context, now time.Time) error {
	for more := true; more; {
		err := s.write(ctx, func() error {
			end, err := s.conn.One(sqlite.New("SELECT until FROM contents WHERE until < ? ORDER BY until LIMIT 1 OFFSET ?", now.UnixMilli(), int64(slice)))
			if err != nil {
				return err
			}
			if more = end > 0; !more {
				end = now.UnixMilli() - 1
			}
			return s.conn.Exec(sqlite.New("DELETE FROM contents WHERE until <= ?", end))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eraseSlice is how many entries are erased in one transaction, and named by id.
const eraseSlice = 2000

// Erase implements record.Store, some entries at a time: appending goes on between them.
func (s *Store) Erase(ctx context.Context, tenant string, about record.Subject) (erased int64, err error) {
	const columns = "SELECT tenant, at, attempt, series, id FROM entries WHERE tenant = (SELECT no FROM tenants WHERE name = ?)"
	for some := range slices.Chunk(about.IDs, eraseSlice) {
		var queries []*query
		for _, id := range some {
			q := new(query)
			q.add(columns, tenant)
			q.single(&record.Query{Filter: record.Filter{Tenant: tenant}, ID: id})
			queries = append(queries, q)
		}
		n, err := s.erase(ctx, queries)
		if erased += n; err != nil {
			return erased, err
		}
	}
	for _, ref := range about.ClientRefs {
		if ref == "" {
			continue
		}
		for more := true; more; { // what is erased has the name no more
			q := new(query)
			q.add(columns+" AND client_ref = ? LIMIT ?", tenant, ref, int64(eraseSlice))
			n, err := s.erase(ctx, []*query{q})
			if erased += n; err != nil {
				return erased, err
			}
			more = n == eraseSlice
		}
	}
	return erased, nil
}

// erase erases the entries that are found, in one transaction.
func (s *Store) erase(ctx context.Context, queries []*query) (erased int64, err error) {
	type entry struct {
		tenant, at, attempt, series int64
		id                          []byte
	}
	err = s.write(ctx, func() error {
		var found []entry
		for _, q := range queries {
			err := s.conn.Query(context.Background(), q.finish(), func(row []sqlite.Value) error {
				r := reader{row}
				e := entry{tenant: r.integer(), at: r.integer(), attempt: r.integer(), series: r.integer()}
				e.id = append(e.id, r.bytes()...)
				found = append(found, e)
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, e := range found {
			for _, st := range []sqlite.Statement{
				sqlite.New("DELETE FROM contents WHERE tenant = ? AND at = ? AND id = ? AND attempt = ?", e.tenant, e.at, e.id, e.attempt),
				sqlite.New("UPDATE entries SET client_ref = NULL, input_digest = NULL, output_digest = NULL WHERE tenant = ? AND at = ? AND id = ? AND attempt = ?", e.tenant, e.at, e.id, e.attempt),
				sqlite.New("UPDATE labels SET value = NULL WHERE series = ? AND at = ? AND id = ?", e.series, e.at, e.id),
			} {
				if err := s.conn.Exec(st); err != nil {
					return err
				}
			}
		}
		erased = int64(len(found))
		return nil
	})
	if err != nil {
		erased = 0
	}
	return erased, err
}
