// Package sqlitefeature keeps features in an SQLite file of its own, for one node.
//
// Limits: the file belongs on a local disk. Several processes of one machine may use
// it, in turns for writing; what is read as of a time waits for what another has under
// way on Linux only. A loss of power may take the last writes.
package sqlitefeature

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/sqlite"
)

const schema = `
	CREATE TABLE IF NOT EXISTS rows (
		tenant TEXT NOT NULL, view TEXT NOT NULL, entity TEXT NOT NULL, event INTEGER NOT NULL, written INTEGER NOT NULL, until INTEGER NOT NULL, doc TEXT NOT NULL,
		PRIMARY KEY (tenant, view, entity, event, written)) STRICT, WITHOUT ROWID;
	CREATE INDEX IF NOT EXISTS rows_until ON rows (until);
	CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL) STRICT;`

// form is the number of the schema, kept in the file.
const form = 1

// Store is a feature.Store in a file.
type Store struct {
	readers *sqlite.Readers
	clock   feature.Clock // of this process, and turn of all
	turn    *turn

	mu     sync.Mutex // guards what follows
	conn   *sqlite.Conn
	closed bool
}

var _ feature.Store = (*Store)(nil)

// Open opens, or makes, the store in a file, which is named by a path or as
// sqlite:path. Only the process's user may read the file.
func Open(ctx context.Context, address string) (*Store, error) {
	c, r, err := sqlite.Open(ctx, address, sqlite.Options{Lazy: true}, migrate)
	if err != nil {
		return nil, err
	}
	path, _ := sqlite.Path(address) // it is one
	t, err := openTurn(path + "-turn")
	if err != nil {
		return nil, errors.Join(err, c.Close(), r.Close())
	}
	return &Store{readers: r, turn: t, conn: c}, nil
}

func migrate(c *sqlite.Conn) error { return sqlite.Form(c, "the feature store", form, schema) }

// Write implements feature.Store, in one transaction.
func (s *Store) Write(ctx context.Context, tenant, view string, rows []feature.Row, written time.Time, keep time.Duration) error {
	for i := range rows {
		if err := feature.CheckRow(&rows[i]); err != nil {
			return err
		}
	}
	return s.alone(ctx, func() error {
		end := func() {}
		defer func() { end() }() // behind the commit, and before another one's turn: they share the lock
		return s.conn.Transaction(func() (err error) {
			if written.IsZero() {
				if written, end, err = s.stamp(ctx); err != nil {
					return err
				}
			}
			for i := range rows {
				if err := s.insert(tenant, view, &rows[i], written, keep); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// stamp returns when the rows of a transaction are written: after those of all others, and
// after all that anybody has read until then.
func (s *Store) stamp(ctx context.Context) (time.Time, func(), error) {
	last, err := s.conn.One(sqlite.New("SELECT last FROM clock"))
	if err != nil {
		return time.Time{}, func() {}, err
	}
	if err := s.turn.take(ctx); err != nil {
		return time.Time{}, func() {}, err
	}
	written, done := s.clock.Begin(time.UnixMicro(max(last, time.Now().UnixMicro())).UTC())
	end := func() { s.turn.leave(); done() }
	if err := s.turn.stamp(written); err != nil {
		return written, end, err
	}
	return written, end, s.conn.Exec(sqlite.New("INSERT INTO clock VALUES (1, ?) ON CONFLICT DO UPDATE SET last = excluded.last", written.UnixMicro()))
}

// insert keeps a row. None is kept for longer than one that is newer: it would be read again
// once that is forgotten.
func (s *Store) insert(tenant, view string, r *feature.Row, written time.Time, keep time.Duration) error {
	event, until := r.EventTime.UnixMicro(), r.EventTime.Add(keep).UnixMicro()
	newer, err := s.conn.One(sqlite.New("SELECT min(until) FROM rows WHERE tenant = ? AND view = ? AND entity = ? AND event > ?", tenant, view, r.Entity, event))
	if err != nil {
		return err
	}
	if newer > 0 {
		until = min(until, newer)
	}
	err = s.conn.Exec(sqlite.New("UPDATE rows SET until = ? WHERE tenant = ? AND view = ? AND entity = ? AND event <= ? AND until > ?", until, tenant, view, r.Entity, event, until))
	if err != nil {
		return err
	}
	return s.conn.Exec(sqlite.New("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET doc = excluded.doc, until = excluded.until",
		tenant, view, r.Entity, event, written.UnixMicro(), until, string(r.Values)))
}

// write does something in a transaction, as a whole or not at all.
func (s *Store) write(ctx context.Context, do func() error) error {
	return s.alone(ctx, func() error { return s.conn.Transaction(do) })
}

// alone does something as the only one of this process that writes.
func (s *Store) alone(ctx context.Context, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sqlite.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return sqlite.Translate(do())
}

const latest = "SELECT event, written, doc FROM rows WHERE tenant = ? AND view = ? AND entity = ? AND event <= ? AND written <= ? ORDER BY event DESC, written DESC LIMIT 1"

// Read implements feature.Store: a search in the table for each key.
func (s *Store) Read(ctx context.Context, tenant string, keys []feature.Key, asOf time.Time) ([]feature.Row, error) {
	if err := s.clock.Reach(ctx, asOf); err != nil {
		return nil, err
	}
	if err := s.turn.reach(ctx, asOf); err != nil {
		return nil, err
	}
	found := make([]feature.Row, len(keys))
	for i, k := range keys {
		err := s.readers.Query(ctx, sqlite.New(latest, tenant, k.View, k.Entity, asOf.UnixMicro(), asOf.UnixMicro()), func(row []sqlite.Value) error {
			event, _ := row[0].(int64)
			written, _ := row[1].(int64)
			doc, _ := row[2].(string)
			found[i] = feature.Row{Entity: k.Entity, EventTime: time.UnixMicro(event).UTC(), Written: time.UnixMicro(written).UTC(), Values: json.RawMessage(doc)}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Forget implements feature.Store.
func (s *Store) Forget(ctx context.Context, tenant string, key feature.Key) error {
	return s.write(ctx, func() error {
		return s.conn.Exec(sqlite.New("DELETE FROM rows WHERE tenant = ? AND view = ? AND entity = ?", tenant, key.View, key.Entity))
	})
}

// slice is how many rows are removed in one transaction: writing goes on between them.
const slice = 10_000

// Expire implements feature.Store.
func (s *Store) Expire(ctx context.Context, now time.Time) error {
	for more := true; more; {
		err := s.write(ctx, func() error {
			end, err := s.conn.One(sqlite.New("SELECT until FROM rows WHERE until <= ? ORDER BY until LIMIT 1 OFFSET ?", now.UnixMicro(), int64(slice)))
			if err != nil {
				return err
			}
			if more = end > 0; !more {
				end = now.UnixMicro()
			}
			return s.conn.Exec(sqlite.New("DELETE FROM rows WHERE until <= ?", end))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Ping implements feature.Store.
func (s *Store) Ping(ctx context.Context) error {
	return s.readers.Query(ctx, sqlite.New("SELECT 1"), func([]sqlite.Value) error { return nil })
}

// Close implements feature.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(sqlite.Translate(s.conn.Close()), s.readers.Close(), s.turn.Close())
}
