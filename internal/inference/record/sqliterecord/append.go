package sqliterecord

import (
	"context"
	"io"
	"time"

	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

const insertEntry = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1"

// Append implements record.Appender, in one transaction.
func (s *Store) Append(ctx context.Context, entries []*record.Entry) error {
	for _, e := range entries {
		if err := e.Check(); err != nil {
			return err
		}
	}
	return s.write(ctx, func() error {
		sums := map[int64]*record.Tally{}
		for _, e := range entries {
			series, fresh, err := s.insert(e)
			if err != nil {
				return err
			}
			if !fresh {
				continue
			}
			if sums[series] == nil {
				sums[series] = record.NewTally(record.Grouping{Step: record.Resolution})
			}
			sums[series].Of(e.Series(), e.At).Count(e)
		}
		for series, t := range sums {
			for _, r := range t.Rollups() {
				if err := s.add(series, &r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// insert adds an entry, and says whether it was not there.
func (s *Store) insert(e *record.Entry) (series int64, fresh bool, err error) {
	tenant, err := s.tenant(e.Tenant)
	if err != nil {
		return 0, false, err
	}
	if series, err = s.serial(place{tenant, e.Series()}); err != nil {
		return 0, false, err
	}
	l := &e.Latency
	err = s.conn.Query(context.Background(), sqlite.New(insertEntry, tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt), series, int64(e.Outcome), text(e.Code), int64(e.Rows), int64(e.BatchRows),
		int64(l.Decode), int64(l.Queue), int64(l.Infer), int64(l.Encode), int64(l.Total), text(e.ClientRef), digest(&e.InputDigest), digest(&e.OutputDigest)),
		func([]sqlite.Value) error { fresh = true; return nil })
	return series, fresh, err
}

// add adds to the rollup of a minute.
func (s *Store) add(series int64, r *record.Rollup) error {
	latency := new(histogram.Histogram)
	latency.Merge(r.Latency)
	minute := minuteOf(r.Start)
	err := s.conn.Query(context.Background(), sqlite.New("SELECT latency FROM rollups WHERE series = ? AND minute = ?", series, minute), func(row []sqlite.Value) error {
		before, _ := row[0].([]byte)
		if err := latency.MergeBinary(before); err != nil {
			return err
		}
		return io.EOF
	})
	if err != nil {
		return err
	}
	packed, err := latency.AppendBinary([]byte{})
	if err != nil {
		return err
	}
	n := r.Outcomes
	return s.conn.Exec(sqlite.New(`INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
		succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed, refused = refused + excluded.refused, invalid = invalid + excluded.invalid,
		cancelled = cancelled + excluded.cancelled, rows = rows + excluded.rows, latency = excluded.latency`,
		series, minute, n[record.Succeeded], n[record.Failed], n[record.Refused], n[record.Invalid], n[record.Cancelled], r.Rows, packed))
}

// minuteOf is the number of the minute that a time is in.
func minuteOf(at time.Time) int64 { return at.UnixMilli() / record.Resolution.Milliseconds() }

// text is a text that is mostly empty.
func text(s string) sqlite.Value {
	if s == "" {
		return nil
	}
	return s
}

func digest(d *record.Digest) sqlite.Value {
	if *d == (record.Digest{}) {
		return nil
	}
	return d[:]
}
