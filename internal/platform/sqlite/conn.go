// Package sqlite opens SQLite files the way every adapter here uses them: one
// connection that writes, several that read, write-ahead logging, no surprises from
// a manipulated file or a failing disk.
//
// Limits: a file belongs on a local disk, not on NFS. Several processes may use it,
// in turns for writing.
package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"github.com/mattn/go-sqlite3"
)

// Value is a column or an argument: int64, float64, string, []byte or nil.
type Value = driver.Value

// Statement is SQL with its arguments.
type Statement struct {
	SQL  string
	args []driver.NamedValue
}

// Bind adds arguments.
func (s *Statement) Bind(values ...Value) {
	for _, v := range values {
		s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1, Value: v})
	}
}

// Reset makes it another statement without arguments, in the same memory.
func (s *Statement) Reset(sql string) {
	clear(s.args)
	s.SQL, s.args = sql, s.args[:0]
}

// Arguments returns how many arguments there are.
func (s *Statement) Arguments() int { return len(s.args) }

// New returns a statement.
func New(sql string, values ...Value) Statement {
	s := Sized(sql, len(values))
	s.Bind(values...)
	return s
}

// Sized returns a statement without arguments that has room for some.
func Sized(sql string, arguments int) Statement {
	return Statement{SQL: sql, args: make([]driver.NamedValue, 0, arguments)}
}

// As returns other SQL with the same arguments, which it shares.
func (s *Statement) As(sql string) Statement { return Statement{SQL: sql, args: s.args} }

// Conn is a connection with its prepared statements, for one goroutine at a
// time. It goes around database/sql, whose pool and conversions cost more than
// SQLite does for a row.
type Conn struct {
	raw      *sqlite3.SQLiteConn
	prepared map[string]*sqlite3.SQLiteStmt
	row      []Value
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
		PRAGMA synchronous = %s;     -- FULL: a commit returns once it is on the disk; NORMAL would lose the last ones with the power
		PRAGMA cache_size = -32768;  -- KiB; the writer touches the ends of all indexes
		PRAGMA wal_autocheckpoint = %d;         -- Options.Checkpoint
		PRAGMA journal_size_limit = 67108864;   -- the log shrinks again after a burst
		PRAGMA max_page_count = %d;  -- Options.MaxSize`
	both = `
		PRAGMA busy_timeout = %d;    -- ms; other processes may hold the lock
		PRAGMA trusted_schema = OFF; -- no functions from within a manipulated file
		PRAGMA cell_size_check = ON; -- notice corruption early
		PRAGMA temp_store = MEMORY;  -- sorts leave no files
		PRAGMA mmap_size = 0;        -- a failing disk is an error, not a SIGBUS
		`
)

// PageSize is the bytes of a page.
const PageSize = 4096

// Options are what a file's connections may be given; the zero value has defaults.
type Options struct {
	Readers int // connections that read; default twice the processors, at least 4
	// Patience is how long another process may hold the file's lock; default 5 s.
	Patience time.Duration
	// MaxSize is how many bytes the file may grow to, in whole pages of PageSize;
	// 0: as many as SQLite and the disk allow.
	MaxSize int64
	// Checkpoint is at how many pages of the log a commit moves it into the file, for
	// which its callers wait; default 4000: rarer moves are cheaper altogether.
	Checkpoint int
	// Lazy returns from a commit once it survives the end of the process; a loss of
	// power may take the last ones.
	Lazy bool
}

func (o Options) withDefaults() Options {
	if o.Readers <= 0 {
		o.Readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	if o.Checkpoint <= 0 {
		o.Checkpoint = 4000
	}
	return o
}

// Writer opens the connection that writes to a file, in write-ahead mode. The file
// has to exist: see Private.
func Writer(path string, o Options) (*Conn, error) {
	o = o.withDefaults()
	pages, synchronous := int64(1<<32-2), "FULL" // SQLite's own limit
	if o.MaxSize > 0 {
		pages = max(o.MaxSize/PageSize, 1)
	}
	if o.Lazy {
		synchronous = "NORMAL"
	}
	return connect(path, fmt.Sprintf(both+writing, o.Patience.Milliseconds(), synchronous, o.Checkpoint, pages))
}

// connect opens a connection with the given settings.
func connect(path, pragmas string) (*Conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, Translate(err)
	}
	raw, err := (&sqlite3.SQLiteDriver{}).Open((&url.URL{Scheme: "file", Path: abs, RawQuery: "_mutex=no"}).String()) // of one goroutine at a time
	if err != nil {
		return nil, Translate(err)
	}
	c := &Conn{raw: raw.(*sqlite3.SQLiteConn), prepared: map[string]*sqlite3.SQLiteStmt{}}
	if err := c.Script(pragmas); err != nil {
		return nil, errors.Join(Translate(err), c.Close())
	}
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.forget()
	return c.raw.Close()
}

func (c *Conn) forget() {
	for sql, s := range c.prepared {
		s.Close() //nolint:errcheck // it repeats the error of the last step
		delete(c.prepared, sql)
	}
}

// Script runs Statements without arguments and results.
func (c *Conn) Script(sql string) error {
	_, err := c.raw.ExecContext(context.Background(), sql, nil)
	return err
}

func (c *Conn) prepare(sql string) (*sqlite3.SQLiteStmt, error) {
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

// Query runs a statement and hands each row to visit, which must not keep the
// slice; io.EOF from visit ends the rows. Statements that change something run
// here, too: the driver's Query passes all arguments in one call, its Exec makes
// a call for each.
func (c *Conn) Query(ctx context.Context, s Statement, visit func(row []Value) error) (err error) {
	prepared, err := c.prepare(s.SQL)
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
		c.row = make([]Value, n)
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

// Exec runs a statement whose results do not matter.
func (c *Conn) Exec(s Statement) error {
	return c.Query(context.Background(), s, func([]Value) error { return nil })
}

// One returns the only integer of the first row, 0 where there is no row.
func (c *Conn) One(s Statement) (n int64, err error) {
	err = c.Query(context.Background(), s, func(row []Value) error {
		n, _ = row[0].(int64)
		return io.EOF
	})
	return n, err
}

// InTransaction says whether a transaction is open.
func (c *Conn) InTransaction() bool { return !c.raw.AutoCommit() }

// Transaction does something as a whole or not at all, as the only one that writes.
func (c *Conn) Transaction(do func() error) (err error) {
	if err := c.Exec(New("BEGIN IMMEDIATE")); err != nil {
		return err
	}
	defer func() {
		if c.InTransaction() { // it failed, or panics
			err = errors.Join(err, c.Exec(New("ROLLBACK")))
		}
	}()
	if err := do(); err != nil {
		return err
	}
	return c.Exec(New("COMMIT"))
}
