package sqliterecord

import (
	"context"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/sqlite"
)

// compared chooses the series that a comparison takes.
const compared = "series = no WHERE experiment = ? AND by_rule = 0 AND shadow = 0"

// Scores implements record.Store: whole minutes by their sums, and of the one that the
// window begins in, the labels; where only some scores count, the labels of all.
func (s *Store) Scores(ctx context.Context, w record.Window) (record.Scores, error) {
	out := record.Scores{}
	if w.Within != nil {
		err := s.labels(ctx, out, " AND at >= ? AND score BETWEEN ? AND ?", w.Experiment, w.From.UnixMilli(), w.Within[0], w.Within[1])
		return out, err
	}
	whole := ceiling(w.From)
	err := s.readers.Query(ctx, sqlite.New("SELECT arm, name, n, mean, m2 FROM series CROSS JOIN scores ON "+compared+" AND minute >= ? AND n > 0", w.Experiment, whole), func(row []sqlite.Value) error {
		r := reader{row}
		out.Add(r.text(), r.text(), sequential.Moments{N: r.integer(), Mean: r.float(), M2: r.float()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.labels(ctx, out, " AND at >= ? AND at < ? AND score IS NOT NULL", w.Experiment, w.From.UnixMilli(), whole*record.Resolution.Milliseconds())
	return out, err
}

// labels counts those of an experiment that also chooses.
func (s *Store) labels(ctx context.Context, out record.Scores, also string, args ...sqlite.Value) error {
	return s.readers.Query(ctx, sqlite.New("SELECT arm, name, score FROM series CROSS JOIN labels ON "+compared+also, args...), func(row []sqlite.Value) error {
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
