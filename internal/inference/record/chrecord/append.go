package chrecord

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
)

// event is what an entry is known by.
type event struct {
	tenant  string
	id      record.ID
	attempt int
}

// chunk is how many entries are looked for in one statement, whose text is bounded.
const chunk = 2000

// Append implements record.Appender.
func (s *Store) Append(ctx context.Context, entries []*record.Entry) error {
	for _, e := range entries {
		if err := e.Check(); err != nil {
			return err
		}
	}
	known := map[event]bool{}
	for some := range slices.Chunk(entries, chunk) {
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

// known finds those that are there.
func (s *Store) known(ctx context.Context, entries []*record.Entry, known map[event]bool) error {
	from, to := entries[0].At, entries[0].At
	var tenants, ids []string
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
		ids = append(ids, fmt.Sprintf("'%X'", e.ID[:])) // plain literals: thousands of expressions would take the server seconds
	}
	sql := "SELECT tenant, id, attempt FROM entries WHERE tenant IN (" + strings.Join(tenants, ", ") + ") AND at BETWEEN " + timeLiteral(from) + " AND " + timeLiteral(to) + " AND hex(id) IN (" + strings.Join(ids, ", ") + ")"
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

func (s *Store) insert(ctx context.Context, entries []*record.Entry) error {
	b, err := s.db.PrepareBatch(ctx, "INSERT INTO entries (tenant, "+bySeries+", at, id, attempt, outcome, code, rows, batch_rows, decode, queue, infer, encode, total, bucket, client_ref, input_digest, output_digest)")
	if err != nil {
		return translate(err)
	}
	for _, e := range entries {
		l := &e.Latency
		err := b.Append(e.Tenant, e.Model, e.Version, e.Experiment, e.Arm, e.ByRule, e.Shadow, e.Bulk, e.At, string(e.ID[:]), uint32(e.Attempt), uint8(e.Outcome), e.Code, int64(e.Rows), int64(e.BatchRows),
			int64(l.Decode), int64(l.Queue), int64(l.Infer), int64(l.Encode), int64(l.Total), uint16(histogram.Bucket(l.Total)), e.ClientRef, string(e.InputDigest[:]), string(e.OutputDigest[:]))
		if err != nil {
			_ = b.Abort()
			return translate(err)
		}
	}
	return translate(b.Send())
}
