package chrecord

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
)

// Scores implements record.Store. The engine adds up: what comes back is a row for each arm and
// name. It reads the days of the window alone, but in these the labels of all experiments, since
// a table is sorted one way, and labels that were said again are told from the last of a
// prediction (FINAL).
func (s *Store) Scores(ctx context.Context, w record.Window) (record.Scores, error) {
	out, within := record.Scores{}, "score IS NOT NULL"
	if w.Within != nil {
		within = fmt.Sprintf("score BETWEEN %g AND %g", w.Within[0], w.Within[1])
	}
	sql := "SELECT arm, name, toInt64(count()), avg(assumeNotNull(score)), varPopStable(assumeNotNull(score)) * count() FROM labels FINAL WHERE experiment = " + literal(w.Experiment) +
		" AND at >= " + timeLiteral(w.From) + " AND NOT by_rule AND NOT shadow AND " + within + " GROUP BY arm, name"
	err := s.rows(ctx, sql, func(r driver.Rows) error {
		var arm, name string
		var m sequential.Moments
		if err := r.Scan(&arm, &name, &m.N, &m.Mean, &m.M2); err != nil {
			return err
		}
		out.Add(arm, name, m)
		return nil
	})
	return out, err
}

// Identity implements record.Store: the one that the server has given the table.
func (s *Store) Identity(ctx context.Context) (name string, err error) {
	err = s.rows(ctx, "SELECT toString(uuid) FROM system.tables WHERE database = currentDatabase() AND name = 'entries'", func(r driver.Rows) error { return r.Scan(&name) })
	if err == nil && name == "" {
		err = fault.New(fault.Internal, "the prediction log has no identity")
	}
	return name, err
}
