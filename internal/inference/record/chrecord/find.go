package chrecord

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
)

// where returns the conditions of a filter, on a column with the time.
func where(f *record.Filter, column string) string {
	return " WHERE tenant = " + literal(f.Tenant) + also(f, column)
}

// also returns the conditions of a filter but for the tenant.
func also(f *record.Filter, column string) string {
	all := []string{""}
	for _, by := range []struct{ column, value string }{{"model", f.Model}, {"version", f.Version}, {"experiment", f.Experiment}, {"arm", f.Arm}} {
		if by.value != "" {
			all = append(all, by.column+" = "+literal(by.value))
		}
	}
	if !f.From.IsZero() {
		all = append(all, column+" >= "+timeLiteral(f.From))
	}
	if !f.To.IsZero() {
		all = append(all, column+" < "+timeLiteral(f.To))
	}
	return strings.Join(all, " AND ")
}

// Find implements record.Store.
func (s *Store) Find(ctx context.Context, q record.Query) ([]record.Entry, error) {
	sql := "SELECT " + bySeries + ", at, id, attempt, outcome, code, rows, batch_rows, decode, queue, infer, encode, total, client_ref, input_digest, output_digest, steps FROM entries FINAL" + where(&q.Filter, "at")
	if !q.ID.IsZero() {
		sql += " AND id = " + idLiteral(q.ID)
	}
	if q.ClientRef != "" {
		sql += " AND client_ref = " + literal(q.ClientRef)
	}
	if len(q.Outcomes) > 0 {
		numbers := make([]string, len(q.Outcomes))
		for i, o := range q.Outcomes {
			numbers[i] = strconv.Itoa(int(o))
		}
		sql += " AND outcome IN (" + strings.Join(numbers, ", ") + ")"
	}
	compare, order := "<", "DESC"
	if q.Forward {
		compare, order = ">", "ASC"
	}
	if p := q.After; !p.IsZero() {
		sql += fmt.Sprintf(" AND (at, id, attempt) %s (%s, %s, %d)", compare, timeLiteral(p.At), idLiteral(p.ID), p.Attempt)
	}
	sql += fmt.Sprintf(" ORDER BY at %[1]s, id %[1]s, attempt %[1]s LIMIT %[2]d", order, min(max(q.Limit, 1), record.MaxLimit))
	var found []record.Entry
	err := s.rows(ctx, sql, func(r driver.Rows) error {
		e, err := entry(r)
		e.Tenant = q.Tenant
		found = append(found, e)
		return err
	})
	if err == nil && q.Content {
		err = s.contents(ctx, found)
	}
	return found, err
}

// Count implements record.Store. Entries that were appended again count once.
func (s *Store) Count(ctx context.Context, f record.Filter) (n int64, err error) {
	err = s.rows(ctx, "SELECT toInt64(count()) FROM entries FINAL"+where(&f, "at"), func(r driver.Rows) error { return r.Scan(&n) })
	return n, err
}

func entry(r driver.Rows) (e record.Entry, err error) {
	var id, in, out string
	var attempt, steps uint32
	var outcome uint8
	var rows, batchRows, decode, queue, infer, encode, total int64
	err = r.Scan(&e.Model, &e.Version, &e.Experiment, &e.Arm, &e.ByRule, &e.Shadow, &e.Bulk, &e.At, &id, &attempt, &outcome, &e.Code, &rows, &batchRows, &decode, &queue, &infer, &encode, &total, &e.ClientRef, &in, &out, &steps)
	e.At, e.ID, e.Attempt, e.Outcome, e.Rows, e.BatchRows, e.Steps = e.At.UTC(), idOf(id), int(attempt), record.Outcome(outcome), int(rows), int(batchRows), int(steps)
	e.Latency = record.Latency{Decode: time.Duration(decode), Queue: time.Duration(queue), Infer: time.Duration(infer), Encode: time.Duration(encode), Total: time.Duration(total)}
	copy(e.InputDigest[:], in)
	copy(e.OutputDigest[:], out)
	return e, err
}

// Statistics implements record.Store: the server adds the minutes up.
func (s *Store) Statistics(ctx context.Context, f record.Filter, g record.Grouping) ([]record.Rollup, error) {
	tally := record.NewTally(g)
	start := func(column string) string {
		if g.Step == 0 {
			return "toInt64(0)"
		}
		seconds := int64(g.Step / time.Second)
		return fmt.Sprintf("toInt64(intDiv(toUnixTimestamp(%s), %d) * %d)", column, seconds, seconds)
	}
	group := " GROUP BY " + bySeries + ", start"
	err := s.rows(ctx, "SELECT "+bySeries+", "+start("minute")+" AS start, sum(succeeded), sum(failed), sum(refused), sum(invalid), sum(cancelled), sum(rows), sumMap(latency) FROM minutes"+where(&f, "minute")+group, func(r driver.Rows) error {
		var p record.Rollup
		var from int64
		var latency map[uint16]int64
		n := &p.Outcomes
		if err := r.Scan(append(series(&p.Series), &from, &n[0], &n[1], &n[2], &n[3], &n[4], &p.Rows, &latency)...); err != nil {
			return err
		}
		p.Latency = new(histogram.Histogram)
		for bucket, count := range latency {
			if err := p.Latency.AddBucket(int(bucket), count); err != nil {
				return err
			}
		}
		tally.Of(p.Series, time.Unix(from, 0)).Add(&p)
		return tally.Check()
	})
	if err != nil {
		return nil, err
	}
	err = s.rows(ctx, "SELECT "+bySeries+", "+start("at")+" AS start, name, toInt64(count()), avg(assumeNotNull(score)), varPopStable(assumeNotNull(score)) * count() FROM labels FINAL"+where(&f, "toStartOfMinute(at)")+" AND score IS NOT NULL"+group+", name", func(r driver.Rows) error {
		var series0 record.Series
		var from int64
		var name string
		var m sequential.Moments
		if err := r.Scan(append(series(&series0), &from, &name, &m.N, &m.Mean, &m.M2)...); err != nil {
			return err
		}
		tally.Of(series0, time.Unix(from, 0)).Score(name, m)
		return tally.Check()
	})
	return tally.Rollups(), err
}

// series are the places that the columns of a series are read into.
func series(s *record.Series) []any {
	return []any{&s.Model, &s.Version, &s.Experiment, &s.Arm, &s.ByRule, &s.Shadow, &s.Bulk}
}
