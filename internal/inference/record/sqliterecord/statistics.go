package sqliterecord

import (
	"context"
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// Statistics implements record.Store.
func (s *Store) Statistics(ctx context.Context, f record.Filter, g record.Grouping) ([]record.Rollup, error) {
	m := minutes{store: s, filter: &f, tally: record.NewTally(g), series: map[int64]record.Series{}}
	q := new(query)
	q.add("SELECT no, model, version, experiment, arm, by_rule, shadow, bulk FROM series WHERE tenant = (SELECT no FROM tenants WHERE name = ?)", f.Tenant)
	q.named(&f)
	err := s.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		r := reader{row}
		m.series[r.integer()] = r.series()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := m.each(ctx, "rollups", "succeeded, failed, refused, invalid, cancelled, rows, latency", count); err != nil {
		return nil, err
	}
	if err := m.each(ctx, "scores", "name, n, mean, m2", score); err != nil {
		return nil, err
	}
	return m.tally.Rollups(), nil
}

// minutes reads tables that are kept by minutes.
type minutes struct {
	store  *Store
	filter *record.Filter
	tally  *record.Tally
	series map[int64]record.Series // what the filter chooses
}

// each hands each row of a table to add. The names of its series would be most of
// it, so they are not in it.
func (m *minutes) each(ctx context.Context, table, columns string, add func(r *reader, sum *record.Rollup) error) error {
	q := new(query)
	q.add("SELECT series, minute, "+columns+" FROM series CROSS JOIN "+table+" ON series = no WHERE tenant = (SELECT no FROM tenants WHERE name = ?)", m.filter.Tenant)
	q.named(m.filter)
	q.between("minute", m.filter, ceiling)
	return m.store.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		r := &reader{row}
		series, known := m.series[r.integer()]
		if !known { // it came just now
			return nil
		}
		at := time.UnixMilli(r.integer() * record.Resolution.Milliseconds())
		sum := m.tally.Of(series, at)
		if err := m.tally.Check(); err != nil {
			return err
		}
		return add(r, sum)
	})
}

func count(r *reader, sum *record.Rollup) error {
	for i := range sum.Outcomes {
		sum.Outcomes[i] += r.integer()
	}
	sum.Rows += r.integer()
	if sum.Latency == nil {
		sum.Latency = new(histogram.Histogram)
	}
	return sum.Latency.MergeBinary(r.bytes())
}

func score(r *reader, sum *record.Rollup) error {
	sum.Score(r.text(), sequential.Moments{N: r.integer(), Mean: r.float(), M2: r.float()})
	return nil
}

// ceiling is the number of the first minute that does not begin before a time.
func ceiling(at time.Time) int64 { return minuteOf(at.Add(record.Resolution - time.Millisecond)) }
