package chrecord

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/record"
)

// keep keeps the tensors of entries, before the entries: again they are the same.
func (s *Store) keep(ctx context.Context, entries []*record.Entry) error {
	var kept []*record.Entry
	for _, e := range entries {
		if len(e.Content) > 0 {
			kept = append(kept, e)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return s.batch(ctx, "INSERT INTO contents (tenant, at, id, attempt, until, content)", func(b driver.Batch) (err error) {
		for _, e := range kept {
			err = errors.Join(err, b.Append(e.Tenant, e.At, string(e.ID[:]), uint32(e.Attempt), e.ContentUntil, string(e.Content)))
		}
		return err
	})
}

// shape keeps what the tensors of entries look like, after the entries: these tell that
// it was done.
func (s *Store) shape(ctx context.Context, entries []*record.Entry) error {
	shapes := map[record.ShapeOf]*drift.Sketch{}
	for _, e := range entries {
		record.CountShapes(shapes, e)
	}
	if len(shapes) == 0 {
		return nil
	}
	return s.batch(ctx, "INSERT INTO shapes ("+bySeries+", minute, name, sketch)", func(b driver.Batch) (err error) {
		for of, sum := range shapes {
			packed, failed := sum.MarshalBinary()
			err = errors.Join(err, failed, b.Append(of.Model, of.Version, of.Experiment, of.Arm, of.ByRule, of.Shadow, of.Bulk, of.Minute, of.Name, string(packed)))
		}
		return err
	})
}

// batch sends what fill appends.
func (s *Store) batch(ctx context.Context, sql string, fill func(driver.Batch) error) error {
	b, err := s.db.PrepareBatch(ctx, sql)
	if err != nil {
		return translate(err)
	}
	if err := fill(b); err != nil {
		_ = b.Abort()
		return translate(err)
	}
	return translate(b.Send())
}

// Shapes implements record.Store.
func (s *Store) Shapes(ctx context.Context, f record.Filter) (record.Shapes, error) {
	out := record.Shapes{}
	err := s.rows(ctx, "SELECT arm, name, sketch FROM shapes WHERE NOT by_rule AND NOT shadow"+also(&f, "minute"), func(r driver.Rows) error {
		var arm, name, packed string
		if err := r.Scan(&arm, &name, &packed); err != nil {
			return err
		}
		one := new(drift.Sketch)
		if err := one.UnmarshalBinary([]byte(packed)); err != nil {
			return err
		}
		out.Add(arm, name, one)
		return nil
	})
	return out, err
}

// contents adds to entries, which are of one tenant, the tensors that are kept of them.
func (s *Store) contents(ctx context.Context, entries []record.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	ids := make([]string, len(entries))
	index := map[record.Place]*record.Entry{}
	for i := range entries {
		ids[i], index[entries[i].Place()] = idLiteral(entries[i].ID), &entries[i]
	}
	sql := "SELECT at, id, attempt, until, content FROM contents FINAL WHERE tenant = " + literal(entries[0].Tenant) + " AND until >= now() AND id IN (" + strings.Join(ids, ", ") + ")"
	return s.rows(ctx, sql, func(r driver.Rows) error {
		var at, until time.Time
		var id, content string
		var attempt uint32
		if err := r.Scan(&at, &id, &attempt, &until, &content); err != nil {
			return err
		}
		if e := index[record.Place{At: at.UTC(), ID: idOf(id), Attempt: int(attempt)}]; e != nil {
			e.Content, e.ContentUntil = []byte(content), until.UTC()
		}
		return nil
	})
}

// Erase implements record.Store, some predictions at a time. The server rewrites the parts
// that are concerned, which takes as long as they are large.
func (s *Store) Erase(ctx context.Context, tenant string, about record.Subject) (int64, error) {
	var of []string
	if len(about.IDs) > 0 {
		ids := make([]string, len(about.IDs))
		for i, id := range about.IDs {
			ids[i] = idLiteral(id)
		}
		of = append(of, "id IN ("+strings.Join(ids, ", ")+")")
	}
	if len(about.ClientRefs) > 0 {
		refs := make([]string, len(about.ClientRefs))
		for i, ref := range about.ClientRefs {
			refs[i] = literal(ref)
		}
		of = append(of, "client_ref IN ("+strings.Join(refs, ", ")+")")
	}
	if len(of) == 0 {
		return 0, nil
	}
	mine := " WHERE tenant = " + literal(tenant) + " AND "
	var erased int64
	for after := ""; ; {
		var ids []string
		var some uint64
		sql := "SELECT id, count() FROM entries FINAL" + mine + "(" + strings.Join(of, " OR ") + ")" + after + " GROUP BY id ORDER BY id LIMIT " + strconv.Itoa(chunk)
		err := s.rows(ctx, sql, func(r driver.Rows) error {
			var id string
			var n uint64
			err := r.Scan(&id, &n)
			ids, some = append(ids, idLiteral(idOf(id))), some+n
			return err
		})
		if err != nil || len(ids) == 0 {
			return erased, err
		}
		if err := s.erase(ctx, mine, ids); err != nil {
			return erased, err
		}
		if erased += int64(some); len(ids) < chunk {
			return erased, nil
		}
		after = " AND id > " + ids[len(ids)-1]
	}
}

// erase erases the predictions of some ids.
func (s *Store) erase(ctx context.Context, mine string, ids []string) error {
	these := mine + "id IN (" + strings.Join(ids, ", ") + ") SETTINGS mutations_sync = 2"
	for _, sql := range []string{
		"ALTER TABLE contents DELETE" + these,
		"ALTER TABLE labels UPDATE value = ''" + these,
		"ALTER TABLE entries UPDATE client_ref = '', input_digest = toFixedString('', 32), output_digest = toFixedString('', 32)" + these,
	} {
		if err := s.db.Exec(ctx, sql); err != nil {
			return translate(err)
		}
	}
	return nil
}
