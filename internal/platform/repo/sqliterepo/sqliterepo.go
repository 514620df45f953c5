// Package sqliterepo keeps a repo.Store in one SQLite file, through
// mattn/go-sqlite3: a driver with transactions, any query and summaries, for one
// node.
//
// All writes go through one connection. While it waits for the disk, changesets
// queue up, and the next transaction takes all of them: many units of work share
// one fsync, each with an outcome of its own (group commit, see writer.go). An
// idle store commits a single changeset at once. Reads have connections of their
// own, and see the last commit while the next is under way (WAL). The log is moved
// into the file beside the commits, on one more connection (checkpoint.go).
//
// Limits: the file belongs on a local disk, not on NFS. Several processes may
// use it, in turns for writing; Changed tells of this process's commits alone. A
// query that filters by one column and orders by another may look at all that
// the filter selects. Memory-only databases are refused: each connection would
// have its own. What was erased may stay in the free space of the file until
// that is used again.
package sqliterepo

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// Config holds what a Driver may be given; the zero value has defaults.
type Config struct {
	Readers int   // connections that read; default twice the processors, at least 4
	Batch   int   // changesets that share a commit, at most; default 256
	Queue   int   // changesets that wait, at most; one more is refused with code "store_busy"; default 4096
	MaxSize int64 // bytes that the file may grow to, whole pages of 4096; then changes are refused with code "storage_full"; 0: the disk's
	// Patience is how long another process may hold the file's lock; default 5 s.
	Patience time.Duration
	Metrics  prometheus.Registerer // optional
}

func (c Config) withDefaults() Config {
	if c.Readers <= 0 {
		c.Readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if c.Batch <= 0 {
		c.Batch = 256
	}
	if c.Queue <= 0 {
		c.Queue = 4096
	}
	if c.Patience <= 0 {
		c.Patience = 5 * time.Second
	}
	return c
}

// Driver is a store in an SQLite file.
type Driver struct {
	tables  tables
	writer  *writer
	readers *sqlite.Readers
	close   func() error
}

var _ repo.Driver = (*Driver)(nil)

// Open opens, or makes, the store in a file, which is named by a path or as
// sqlite:path. Only the process's user may read the file.
func Open(ctx context.Context, address string, cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	path, err := sqlite.Path(address)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := sqlite.Private(path); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	options := sqlite.Options{Readers: cfg.Readers, Patience: cfg.Patience, MaxSize: cfg.MaxSize, Checkpoint: logLimit}
	c, err := sqlite.Writer(path, options)
	if err != nil {
		return nil, err
	}
	mover, err := sqlite.Checkpointer(path, options)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	r, err := sqlite.OpenReaders(path, options)
	if err != nil {
		return nil, errors.Join(err, mover.Close(), c.Close())
	}
	d := &Driver{writer: startWriter(c, mover, cfg, m), readers: r}
	d.close = sync.OnceValue(func() error { return errors.Join(d.readers.Close(), d.writer.stop()) })
	return d, nil
}

// Features implements repo.Driver.
func (d *Driver) Features() repo.Features {
	return repo.Features{MultiAggregate: true, AnyQuery: true, Summaries: true, PromptQueries: true, Durable: true}
}

// Ping implements repo.Driver: it reads and takes the lock for writing.
func (d *Driver) Ping(ctx context.Context) error {
	err := d.readers.Query(ctx, newStatement("SELECT 1"), func([]value) error { return nil })
	if err != nil {
		return err
	}
	return d.writer.run(ctx, func(*conn) error { return nil })
}

// Close implements repo.Driver. What is queued is committed first.
func (d *Driver) Close() error { return d.close() }

// tables holds the tables of the kinds that were migrated.
type tables struct {
	mu    sync.Mutex // of set
	kinds atomic.Pointer[map[string]*table]
}

func (t *tables) set(all []*table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[string]*table{}
	if old := t.kinds.Load(); old != nil {
		maps.Copy(next, *old)
	}
	for _, v := range all {
		next[v.kind] = v
	}
	t.kinds.Store(&next)
}

func (t *tables) of(kind string) (*table, error) {
	if all := t.kinds.Load(); all != nil {
		if table, ok := (*all)[kind]; ok {
			return table, nil
		}
	}
	return nil, fault.New(fault.Internal, "the store was not migrated for %q: hand its schema to Migrate", kind).WithCode("not_migrated")
}
