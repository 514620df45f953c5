package sqliterecord

import (
	"context"
	"math"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/sqlite"
)

// compared chooses the series that a comparison takes.
const compared = "series = no AND experiment = ? AND by_rule = 0 AND shadow = 0"

// Scores implements record.Store: whole minutes by their sums, and of the one that the
// window begins in, the labels. Where only some scores count, so are minutes all of whose
// scores do, and of those that have others, too, the labels are read.
func (s *Store) Scores(ctx context.Context, w record.Window) (record.Scores, error) {
	out, within := record.Scores{}, [2]float64{math.Inf(-1), math.Inf(1)}
	if w.Within != nil {
		within = *w.Within
	}
	whole, minute := ceiling(w.From), record.Resolution.Milliseconds()
	sums := "SELECT arm, name, n, mean, m2 FROM series CROSS JOIN scores ON " + compared + " AND minute >= ? AND n > 0"
	args := []sqlite.Value{w.Experiment, whole}
	if w.Within != nil {
		sums, args = sums+" AND lo >= ? AND hi <= ?", append(args, within[0], within[1])
	}
	err := s.readers.Query(ctx, sqlite.New(sums, args...), func(row []sqlite.Value) error {
		r := reader{row}
		out.Add(r.text(), r.text(), sequential.Moments{N: r.integer(), Mean: r.float(), M2: r.float()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.labels(ctx, out, "CROSS JOIN labels ON "+compared+" AND at >= ? AND at < ? AND score BETWEEN ? AND ?", w.Experiment, w.From.UnixMilli(), whole*minute, within[0], within[1])
	if err != nil || w.Within == nil {
		return out, err
	}
	mixed := "CROSS JOIN scores ON scores." + compared + " AND minute >= ? AND n > 0 AND (lo IS NULL OR (lo < ? OR hi > ?) AND hi >= ? AND lo <= ?)" +
		" CROSS JOIN labels ON labels.series = no AND labels.name = scores.name AND at >= minute * ? AND at < (minute + 1) * ? AND score BETWEEN ? AND ?"
	return out, s.labels(ctx, out, mixed, w.Experiment, whole, within[0], within[1], within[0], within[1], minute, minute, within[0], within[1])
}

// labels counts those that are joined to series.
func (s *Store) labels(ctx context.Context, out record.Scores, joined string, args ...sqlite.Value) error {
	return s.readers.Query(ctx, sqlite.New("SELECT arm, labels.name, score FROM series "+joined, args...), func(row []sqlite.Value) error {
		r := reader{row}
		arm, name := r.text(), r.text()
		var m sequential.Moments
		m.Add(r.float())
		out.Add(arm, name, m)
		return nil
	})
}

// Identity implements record.Store.
func (s *Store) Identity(ctx context.Context) (name string, err error) {
	err = s.readers.Query(ctx, sqlite.New("SELECT identity FROM log"), func(row []sqlite.Value) error {
		r := reader{row}
		name = r.text()
		return nil
	})
	if err == nil && name == "" {
		err = fault.New(fault.Internal, "the prediction log has no identity")
	}
	return name, err
}
