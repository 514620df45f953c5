package scyllarepo

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
)

// Config holds what a Driver may be given; the zero value has defaults.
type Config struct {
	Logger  *slog.Logger          // for what happens to connections; default none
	Now     func() time.Time      // default time.Now
	Metrics prometheus.Registerer // default none
	// CommitTimeout is how long Commit tries to find out what became of a change;
	// default 30 s. It is the same in all processes.
	CommitTimeout time.Duration
	// MaxExamined is how many records a query may look at that has conditions
	// beyond its leading one; default 10,000.
	MaxExamined int

	// For tests. An error, or false, ends a commit there as if the process had
	// ended: what was written stays.
	beforeBatch func() error
	afterCommit func(error) bool
	tune        func(*gocql.ClusterConfig)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CommitTimeout <= 0 {
		c.CommitTimeout = 30 * time.Second
	}
	if c.MaxExamined <= 0 {
		c.MaxExamined = 10000
	}
	return c
}

// Driver is a store on CQL. It is safe for concurrent use.
type Driver struct {
	cfg     Config
	session *cql.Session
	metrics *metrics

	schemas atomic.Pointer[map[string]*repo.Schema]
	shards  [shards]shard
	recent  recent
	changed chan struct{}
	stale   chan stale
	// Marks that ended before this are forgotten, in microseconds since 1970.
	forgotten atomic.Int64

	stop     context.CancelFunc // of the sweepers
	sweepers sync.WaitGroup
	closing  sync.Once
}

var _ repo.Driver = (*Driver)(nil)

// How many entries may wait to be removed, and who removes them.
const (
	maxStale = 4096
	sweepers = 4
)

// Open connects to a cluster by a URL, see cql.Parse, and makes the keyspace where it
// is missing and the URL does not forbid it. It fails with Unavailable where no node
// answers; later it waits for nodes to come back.
func Open(ctx context.Context, url string, cfg Config) (*Driver, error) {
	at, err := cql.Parse(url)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	session, err := cql.Open(ctx, at, cql.Options{Logger: cfg.Logger, Now: cfg.Now, Tune: cfg.tune})
	if err != nil {
		return nil, err
	}
	d := &Driver{cfg: cfg, session: session, metrics: m, changed: make(chan struct{}, 1), stale: make(chan stale, maxStale)}
	d.schemas.Store(&map[string]*repo.Schema{})
	for i := range d.shards {
		d.shards[i].busy, d.shards[i].placed = map[int64]bool{}, map[string]outRow{}
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	for range sweepers {
		d.sweepers.Go(func() { d.sweep(background) })
	}
	return d, nil
}

// query is a statement that may be repeated.
func (d *Driver) query(ctx context.Context, text string, args ...any) *gocql.Query {
	return d.session.Repeat(ctx, text, args...)
}

func (d *Driver) now() time.Time { return d.cfg.Now() }

func (d *Driver) schema(kind string) *repo.Schema { return (*d.schemas.Load())[kind] }

func (d *Driver) usable(ctx context.Context) error { return d.session.Usable(ctx) }

// Features implements repo.Driver.
func (*Driver) Features() repo.Features { return repo.Features{PromptQueries: true, Durable: true} }

// Ping implements repo.Driver.
func (d *Driver) Ping(ctx context.Context) error {
	return d.session.Ping(ctx)
}

// Close implements repo.Driver. Entries that wait to be removed stay.
func (d *Driver) Close() error {
	d.closing.Do(func() {
		d.stop()
		d.sweepers.Wait()
		d.session.Close()
	})
	return nil
}
