package sqliterecord

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/evidence/histogram"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// together is how many entries one statement adds: most of what a statement costs is
// not the row.
const together = 16

const entryRow = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

var (
	insertEntry   = "INSERT INTO entries VALUES " + entryRow + " ON CONFLICT DO NOTHING RETURNING 1"
	insertEntries = "INSERT INTO entries VALUES " + entryRow + strings.Repeat(", "+entryRow, together-1) + " ON CONFLICT DO NOTHING"
)

// numbered is an entry with the numbers of its tenant and its series.
type numbered struct {
	*record.Entry
	tenant, series int64
}

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
		var room [together]numbered
		for some := range slices.Chunk(entries, together) {
			fresh, err := s.insert(room[:0], some, full)
			if err != nil {
				return err
			}
			for i := range fresh {
				tally(all, &fresh[i])
			}
		}
		return s.addAll(all)
	})
	if err == nil && full {
		err = record.ErrFull
	}
	return err
}

// tally counts an entry in the sums of its series.
func tally(all map[int64]sums, e *numbered) {
	sum, ok := all[e.series]
	if !ok {
		sum = sums{record.NewTally(record.Grouping{Step: record.Resolution}), map[record.ShapeOf]*drift.Sketch{}}
		all[e.series] = sum
	}
	sum.Of(e.Series(), e.At).Count(e.Entry)
	record.CountShapes(sum.shapes, e.Entry)
}

// addAll adds to what the minutes of the series come to.
func (s *Store) addAll(all map[int64]sums) error {
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
}

// full says whether the file has as much as it may.
func (s *Store) full() (bool, error) {
	if s.maxSize <= 0 {
		return false, nil
	}
	size, err := s.conn.One(sqlite.New("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"))
	return size >= s.maxSize, err
}

// insert adds entries, or only looks for them where the file is full. It appends those
// that were not there to fresh.
func (s *Store) insert(fresh []numbered, some []*record.Entry, full bool) ([]numbered, error) {
	var room [together]numbered
	list := room[:0]
	for _, e := range some {
		tenant, err := s.tenant(e.Tenant)
		if err != nil {
			return nil, err
		}
		series, err := s.serial(place{tenant, e.Series()})
		if err != nil {
			return nil, err
		}
		list = append(list, numbered{e, tenant, series})
	}
	if len(list) == together && !full {
		added, err := s.insertAll(list)
		if err != nil {
			return nil, err
		}
		if added {
			return append(fresh, list...), s.putAll(list)
		}
	}
	for i := range list {
		added, err := s.insertOne(&list[i], full)
		if err != nil {
			return nil, err
		}
		if added {
			fresh = append(fresh, list[i])
		}
	}
	if full {
		return fresh, nil
	}
	return fresh, s.putAll(fresh)
}

// insertAll adds entries that are all new, or none of them.
func (s *Store) insertAll(list []numbered) (added bool, err error) {
	if err := s.conn.Exec(sqlite.New("SAVEPOINT entries")); err != nil {
		return false, err
	}
	s.rows.Reset(insertEntries)
	for i := range list {
		list[i].bind(&s.rows)
	}
	if err := s.conn.Exec(s.rows); err != nil {
		return false, err
	}
	n, err := s.conn.One(sqlite.New("SELECT changes()"))
	if err != nil {
		return false, err
	}
	if added = n == int64(len(list)); !added {
		if err := s.conn.Exec(sqlite.New("ROLLBACK TO entries")); err != nil {
			return false, err
		}
	}
	return added, s.conn.Exec(sqlite.New("RELEASE entries"))
}

// insertOne adds an entry, or only looks for it where the file is full, and says whether
// it was not there.
func (s *Store) insertOne(e *numbered, full bool) (fresh bool, err error) {
	if full {
		n, err := s.conn.One(sqlite.New("SELECT count(*) FROM entries WHERE tenant = ? AND at = ? AND id = ? AND attempt = ?", e.tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt)))
		return n == 0, err
	}
	s.rows.Reset(insertEntry)
	e.bind(&s.rows)
	err = s.conn.Query(context.Background(), s.rows, func([]sqlite.Value) error { fresh = true; return nil })
	return fresh, err
}

// bind adds the columns of an entry to a statement's arguments.
func (e *numbered) bind(to *sqlite.Statement) {
	l := &e.Latency
	to.Bind(e.tenant, e.At.UnixMilli(), e.ID[:], int64(e.Attempt), e.series, int64(e.Outcome), text(e.Code), int64(e.Rows), int64(e.BatchRows),
		int64(l.Decode), int64(l.Queue), int64(l.Infer), int64(l.Encode), int64(l.Total), text(e.ClientRef), digest(&e.InputDigest), digest(&e.OutputDigest), int64(e.Steps))
}

// putAll keeps the tensors of entries.
func (s *Store) putAll(list []numbered) error {
	for i := range list {
		if err := s.put(list[i].tenant, list[i].Entry); err != nil {
			return err
		}
	}
	return nil
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
