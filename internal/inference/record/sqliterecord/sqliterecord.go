// Package sqliterecord keeps the prediction log in an SQLite file of its own, for
// one node: entries, and beside them, in the same transactions, what each minute of
// a series comes to.
//
// Limits: the file belongs on a local disk. Several processes of one machine may
// append to it, in turns. A loss of power may take the last transactions. A query
// that chooses by model, version or arm reads all entries of the tenant in its time.
package sqliterecord

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/sqlite"
)

// Config holds what a Store may be given; the zero value has defaults.
type Config struct {
	// MaxSize is how many bytes the file may have for more entries to be kept; 0: as many
	// as the disk has. Sums and labels are kept beyond it.
	MaxSize int64
	// Patience is how long another process may hold the file's lock; default 5 s.
	Patience time.Duration
}

// Store is a prediction log in an SQLite file.
type Store struct {
	readers *sqlite.Readers
	maxSize int64

	mu     sync.Mutex // guards what follows
	conn   *sqlite.Conn
	closed bool
	rows   sqlite.Statement // that is appended with, for its memory
	// The numbers of tenants and series that the file has.
	tenants    map[string]int64
	series     map[place]int64
	generation int64 // of the numbers of series
}

// place is a tenant's series.
type place struct {
	tenant int64
	record.Series
}

var _ record.Store = (*Store)(nil)

// Open opens, or makes, the log in a file, which is named by a path or as
// sqlite:path. Only the process's user may read the file.
func Open(ctx context.Context, address string, cfg Config) (*Store, error) {
	c, r, err := sqlite.Open(ctx, address, sqlite.Options{Patience: cfg.Patience, Lazy: true}, migrate)
	if err != nil {
		return nil, err
	}
	return &Store{readers: r, maxSize: cfg.MaxSize, conn: c, tenants: map[string]int64{}, series: map[place]int64{}}, nil
}

// Close implements record.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(sqlite.Translate(s.conn.Close()), s.readers.Close())
}

// Ping implements record.Store.
func (s *Store) Ping(ctx context.Context) error {
	return s.readers.Query(ctx, sqlite.New("SELECT 1"), func([]sqlite.Value) error { return nil })
}

// write does something in a transaction, as a whole or not at all.
func (s *Store) write(ctx context.Context, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sqlite.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.conn.Transaction(func() error {
		now, err := s.conn.One(sqlite.New("SELECT n FROM generations"))
		if err != nil {
			return err
		}
		if now != s.generation { // some were given up, maybe by another process
			clear(s.series)
			s.generation = now
		}
		return do()
	})
	if err != nil { // what it has numbered may be gone
		clear(s.tenants)
		clear(s.series)
	}
	return sqlite.Translate(err)
}

// tenant returns a tenant's number, making it where it is new.
func (s *Store) tenant(name string) (int64, error) {
	if no, ok := s.tenants[name]; ok {
		return no, nil
	}
	no, err := s.number(sqlite.New("INSERT INTO tenants (name) VALUES (?) ON CONFLICT DO NOTHING", name), sqlite.New("SELECT no FROM tenants WHERE name = ?", name))
	if err == nil {
		s.tenants[name] = no
	}
	return no, err
}

// serial returns the number of a tenant's series, making it where it is new.
func (s *Store) serial(p place) (int64, error) {
	if no, ok := s.series[p]; ok {
		return no, nil
	}
	if len(s.series) >= maxSeries {
		clear(s.series)
	}
	values := []sqlite.Value{p.tenant, p.Model, p.Version, p.Experiment, p.Arm, flag(p.ByRule), flag(p.Shadow), flag(p.Bulk)}
	no, err := s.number(
		sqlite.New("INSERT INTO series (tenant, model, version, experiment, arm, by_rule, shadow, bulk) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values...),
		sqlite.New("SELECT no FROM series WHERE tenant = ? AND model = ? AND version = ? AND experiment = ? AND arm = ? AND by_rule = ? AND shadow = ? AND bulk = ?", values...))
	if err == nil {
		s.series[p] = no
	}
	return no, err
}

// maxSeries bounds how many numbers of series are remembered.
const maxSeries = 10_000

func (s *Store) number(add, find sqlite.Statement) (int64, error) {
	if err := s.conn.Exec(add); err != nil {
		return 0, err
	}
	no, err := s.conn.One(find)
	if err == nil && no == 0 {
		err = fault.New(fault.Internal, "a number that was just given is not there")
	}
	return no, err
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
