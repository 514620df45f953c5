package sqliterepo

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"
)

type value = driver.Value

// statement is SQL with its arguments: int64, float64, string, []byte or nil.
type statement struct {
	sql  string
	args []driver.NamedValue
}

func (s *statement) bind(values ...value) {
	for _, v := range values {
		s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1, Value: v})
	}
}

func newStatement(sql string, values ...value) statement {
	s := statement{sql: sql, args: make([]driver.NamedValue, 0, len(values))}
	s.bind(values...)
	return s
}

// conn is a connection with its prepared statements, for one goroutine at a
// time. It goes around database/sql, whose pool and conversions cost more than
// SQLite does for a row.
type conn struct {
	raw      *sqlite3.SQLiteConn
	prepared map[string]*sqlite3.SQLiteStmt
	row      []value
}

// maxPrepared bounds the prepared statements of a connection; queries by many
// different rules make more than that.
const maxPrepared = 256

// What connections are for.
const (
	reading = `
		PRAGMA query_only = ON;      -- only the writer writes
		PRAGMA cache_size = -8192;   -- KiB`
	writing = `
		PRAGMA journal_mode = WAL;   -- readers go on while a commit is under way; a commit is one fsync
		PRAGMA synchronous = FULL;   -- a commit returns once it is on the disk; NORMAL would lose the last ones with the power
		PRAGMA cache_size = -32768;  -- KiB; the writer touches the ends of all indexes
		PRAGMA wal_autocheckpoint = 4000;       -- pages; rarer, larger moves of the log into the file
		PRAGMA journal_size_limit = 67108864;   -- the log shrinks again after a burst
		PRAGMA max_page_count = %d;  -- Config.MaxSize`
	both = `
		PRAGMA busy_timeout = %d;    -- ms; other processes may hold the lock
		PRAGMA trusted_schema = OFF; -- no functions from within a manipulated file
		PRAGMA cell_size_check = ON; -- notice corruption early
		PRAGMA temp_store = MEMORY;  -- sorts leave no files
		PRAGMA mmap_size = 0;        -- a failing disk is an error, not a SIGBUS
		`
)

const pageSize = 4096

// connect opens a connection for one of the two purposes.
func connect(path string, cfg Config, purpose string) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, translate(err)
	}
	raw, err := (&sqlite3.SQLiteDriver{}).Open((&url.URL{Scheme: "file", Path: abs}).String())
	if err != nil {
		return nil, translate(err)
	}
	c := &conn{raw: raw.(*sqlite3.SQLiteConn), prepared: map[string]*sqlite3.SQLiteStmt{}}
	pragmas := fmt.Sprintf(both, cfg.Patience.Milliseconds())
	if purpose == writing {
		pages := int64(1<<32 - 2) // SQLite's own limit
		if cfg.MaxSize > 0 {
			pages = max(cfg.MaxSize/pageSize, 1)
		}
		pragmas += fmt.Sprintf(writing, pages)
	} else {
		pragmas += purpose
	}
	if err := c.script(pragmas); err != nil {
		return nil, errors.Join(translate(err), c.close())
	}
	return c, nil
}

func (c *conn) close() error {
	c.forget()
	return c.raw.Close()
}

func (c *conn) forget() {
	for sql, s := range c.prepared {
		s.Close() //nolint:errcheck // it repeats the error of the last step
		delete(c.prepared, sql)
	}
}

// script runs statements without arguments and results.
func (c *conn) script(sql string) error {
	_, err := c.raw.ExecContext(context.Background(), sql, nil)
	return err
}

func (c *conn) prepare(sql string) (*sqlite3.SQLiteStmt, error) {
	if s, ok := c.prepared[sql]; ok {
		return s, nil
	}
	if len(c.prepared) >= maxPrepared {
		c.forget()
	}
	s, err := c.raw.Prepare(sql)
	if err != nil {
		return nil, err
	}
	c.prepared[sql] = s.(*sqlite3.SQLiteStmt)
	return c.prepared[sql], nil
}

// query runs a statement and hands each row to visit, which must not keep the
// slice; io.EOF from visit ends the rows. Statements that change something run
// here, too: the driver's Query passes all arguments in one call, its Exec makes
// a call for each.
func (c *conn) query(ctx context.Context, s statement, visit func(row []value) error) (err error) {
	prepared, err := c.prepare(s.sql)
	if err != nil {
		return err
	}
	rows, err := prepared.QueryContext(ctx, s.args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	n := len(rows.Columns())
	if cap(c.row) < n {
		c.row = make([]value, n)
	}
	for {
		err := rows.Next(c.row[:n])
		if err == nil {
			err = visit(c.row[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// exec runs a statement whose results do not matter.
func (c *conn) exec(s statement) error {
	return c.query(context.Background(), s, func([]value) error { return nil })
}

// one returns the only integer of the first row, 0 where there is no row.
func (c *conn) one(s statement) (n int64, err error) {
	err = c.query(context.Background(), s, func(row []value) error {
		n, _ = row[0].(int64)
		return io.EOF
	})
	return n, err
}

// readers is a pool of connections that read.
type readers struct {
	idle   chan *conn
	closed atomic.Bool
}

func openReaders(path string, cfg Config) (*readers, error) {
	r := &readers{idle: make(chan *conn, cfg.Readers)}
	for range cfg.Readers {
		c, err := connect(path, cfg, reading)
		if err != nil {
			for range len(r.idle) {
				err = errors.Join(err, (<-r.idle).close())
			}
			return nil, err
		}
		r.idle <- c
	}
	return r, nil
}

// query runs a statement on an idle connection.
func (r *readers) query(ctx context.Context, s statement, visit func(row []value) error) error {
	if r.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c := <-r.idle:
		defer func() { r.idle <- c }()
		if r.closed.Load() {
			return errClosed
		}
		return translate(c.query(ctx, s, visit))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop closes the connections once they are idle.
func (r *readers) stop() error {
	r.closed.Store(true)
	var errs []error
	for range cap(r.idle) {
		errs = append(errs, (<-r.idle).close())
	}
	return translate(errors.Join(errs...))
}
