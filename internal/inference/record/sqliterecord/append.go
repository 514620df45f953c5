package sqliterecord

import (
	"context"
	"io"
	"time"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

const insertEntry = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1"

// sums are what the entries of a series come to.
type sums struct {
	*record.Tally
	shapes map[record.ShapeOf]*drift.Sketch
}

// Append implements record.Appender, in one transaction. Once the file is full entries
// count and are not kept, and then it fails with record.ErrFull.
func (s *Store) Append(ctx context.Context, entries []*record.Entry) error {
	for _, e := range entries {
		if err := e.Check(); err != nil {
			return err
		}
	}
	full := false
	err := s.write(ctx, func() (err error) {
		if full, err = s.full(); err != nil {
			return err
		}
		all := map[int64]sums{}
		for _, e := range entries {
			series, fresh, err := s.insert(e, full)
			if err != nil {
				return err
			}
			if !fresh {
				continue
			}
			if all[series].Tally == nil {
				all[series] = sums{record.NewTally(record.Grouping{Step: record.Resolution}), map[record.ShapeOf]*drift.Sketch{}}
			}
			all[series].Of(e.Series(), e.At).Count(e)
			record.CountShapes(all[series].shapes, e)
		}
		for series, t := range all {
			for _, r := range t.Rollups() {
				if err := s.add(series, &r); err != nil {
					return err
				}
			}
			for of, sum := range t.shapes {
				if err := s.shape(series, minuteOf(of.Minute), of.Name, sum); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil && full {
		err = record.ErrFull
	}
	return err
}

// full says whether the file has as much as it may.
func (s *Store) full() (bool, error) {
	if s.maxSize <= 0 {
		return false, nil
	}
	size, err := s.conn.One(sqlite.New("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"))
	return size >= s.maxSize, err
}

// insert adds an entry, or only looks for it where the file is full, and says whether it
// was not there.
func (s *Store) insert(e *record.Entry, full bool) (series int64, fresh bool, err error) {
	tenant, err := s.tenant(e.Tenant)
	if err != nil {
		return 0, false, err
	}
	if series, err = s.serial(place{tenant, e.Series()}); err != nil {
		return 0, false, err
	}
	if full {
		n, err := s.conn.One(sqlite.New("SELECT count(*) FROM entries WHERE tenant = ? AND at = ? AND id = ? AND attempt = ?", tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt)))
		return series, n == 0, err
	}
	l := &e.Latency
	err = s.conn.Query(context.Background(), sqlite.New(insertEntry, tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt), series, int64(e.Outcome), text(e.Code), int64(e.Rows), int64(e.BatchRows),
		int64(l.Decode), int64(l.Queue), int64(l.Infer), int64(l.Encode), int64(l.Total), text(e.ClientRef), digest(&e.InputDigest), digest(&e.OutputDigest)),
		func([]sqlite.Value) error { fresh = true; return nil })
	if err == nil && fresh {
		err = s.put(tenant, e)
	}
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
