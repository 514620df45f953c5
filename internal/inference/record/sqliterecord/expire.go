package sqliterecord

import (
	"context"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// slice is how many entries are forgotten in one transaction: appending goes on
// between them.
const slice = 10_000

// Expire implements record.Store. Times are taken as whole minutes.
func (s *Store) Expire(ctx context.Context, entries, statistics time.Time) error {
	before := entries.Truncate(record.Resolution).UnixMilli()
	tenants, err := s.numbers(ctx, "SELECT no FROM tenants")
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		for more := true; more; {
			err := s.write(ctx, func() error {
				end, err := s.conn.One(sqlite.New("SELECT at FROM entries WHERE tenant = ? AND at < ? ORDER BY at LIMIT 1 OFFSET ?", tenant, before, int64(slice)))
				if err != nil {
					return err
				}
				if more = end > 0; !more {
					end = before - 1
				}
				if err := s.conn.Exec(sqlite.New("DELETE FROM contents WHERE tenant = ? AND at <= ?", tenant, end)); err != nil {
					return err
				}
				return s.conn.Exec(sqlite.New("DELETE FROM entries WHERE tenant = ? AND at <= ?", tenant, end))
			})
			if err != nil {
				return err
			}
		}
	}
	series, err := s.numbers(ctx, "SELECT no FROM series")
	if err != nil {
		return err
	}
	minute := minuteOf(statistics)
	for _, no := range series {
		err := s.write(ctx, func() error {
			for _, st := range []sqlite.Statement{
				sqlite.New("DELETE FROM shapes WHERE series = ? AND minute < ?", no, minute),
				sqlite.New("DELETE FROM labels WHERE series = ? AND at < ?", no, before),
				sqlite.New("DELETE FROM rollups WHERE series = ? AND minute < ?", no, minute),
				sqlite.New("DELETE FROM scores WHERE series = ? AND minute < ?", no, minute),
			} {
				if err := s.conn.Exec(st); err != nil {
					return err
				}
			}
			if entries.Before(statistics) {
				return nil // entries may be left of a minute without sums
			}
			return s.giveUp(no)
		})
		if err != nil {
			return err
		}
	}
	return s.forget(ctx, time.Now())
}

// giveUp forgets a series of which nothing is left, that of a model that is gone say.
// Whoever remembers its number is told by the generation.
func (s *Store) giveUp(no int64) error {
	left, err := s.conn.One(sqlite.New("SELECT EXISTS (SELECT 1 FROM rollups WHERE series = ?1) OR EXISTS (SELECT 1 FROM scores WHERE series = ?1) OR EXISTS (SELECT 1 FROM labels WHERE series = ?1) OR EXISTS (SELECT 1 FROM shapes WHERE series = ?1)", no))
	if err != nil || left != 0 {
		return err
	}
	if err := s.conn.Exec(sqlite.New("DELETE FROM series WHERE no = ?", no)); err != nil {
		return err
	}
	return s.conn.Exec(sqlite.New("UPDATE generations SET n = n + 1"))
}

func (s *Store) numbers(ctx context.Context, sql string) (out []int64, err error) {
	err = s.readers.Query(ctx, sqlite.New(sql), func(row []sqlite.Value) error {
		r := reader{row}
		out = append(out, r.integer())
		return nil
	})
	return out, err
}
