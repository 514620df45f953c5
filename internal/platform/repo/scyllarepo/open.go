package scyllarepo

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"sluice/internal/platform/fault"
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
	at      target
	session *gocql.Session
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

// Open connects to a cluster, and makes the keyspace where it is missing and the
// URL does not forbid it:
//
//	scylla://[user:password@]host[:port][,host[:port]…]/keyspace[?…]
//
// The parameters are replication (default 3) and dc (default: of the node that
// answers) for a new keyspace, create (default true), consistency (local_quorum
// or quorum), timeout of one statement (default 5 s), tls, and ca, cert and key,
// which are paths and imply tls. It fails with Unavailable where no node answers;
// later it waits for nodes to come back.
func Open(ctx context.Context, url string, cfg Config) (*Driver, error) {
	at, err := parse(url)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := makeKeyspace(ctx, at, cfg); err != nil {
		return nil, translate(ctx, err)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	session, err := connect(at, cfg, at.keyspace)
	if err != nil {
		return nil, translate(ctx, err)
	}
	d := &Driver{cfg: cfg, at: at, session: session, metrics: m, changed: make(chan struct{}, 1), stale: make(chan stale, maxStale)}
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

// connect makes a session: pools to all nodes, that are made again for ever.
func connect(at target, cfg Config, keyspace string) (*gocql.Session, error) {
	c := gocql.NewCluster(at.hosts...)
	c.Keyspace = keyspace
	c.Consistency, c.SerialConsistency = at.consistency, at.serial
	c.Timeout, c.ReadTimeout, c.WriteTimeout, c.ConnectTimeout = at.timeout, at.timeout, at.timeout, at.timeout
	c.Logger = logger{cfg.Logger}
	policy := gocql.RoundRobinHostPolicy()
	if at.dc != "" {
		policy = gocql.DCAwareRoundRobinPolicy(at.dc)
	}
	c.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(policy)
	// Repeated are reads, and writes that have the same effect twice. Conditional
	// batches have a policy of their own: none.
	c.RetryPolicy = &gocql.SimpleRetryPolicy{NumRetries: 2}
	c.ReconnectionPolicy = &gocql.ExponentialReconnectionPolicy{MaxRetries: 5, InitialInterval: 100 * time.Millisecond, MaxInterval: time.Second}
	c.ReconnectInterval = time.Second
	if at.user != "" {
		c.Authenticator = gocql.PasswordAuthenticator{Username: at.user, Password: at.password}
	}
	if at.tls {
		c.SslOpts = &gocql.SslOptions{CaPath: at.ca, CertPath: at.cert, KeyPath: at.key, EnableHostVerification: true}
	}
	if cfg.tune != nil {
		cfg.tune(c)
	}
	// A session that cannot be made has goroutines that only Close ends, and
	// CreateSession does not return it.
	session, err := c.CreateSessionNonBlocking()
	if err != nil {
		return nil, err
	}
	if err := session.WaitUntilReady(); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

// query is a statement that may be repeated.
func (d *Driver) query(ctx context.Context, text string, args ...any) *gocql.Query {
	return d.session.Query(text, args...).WithContext(ctx).Idempotent(true)
}

// each calls f for 0 to n-1, several at once, and returns the first error.
func (*Driver) each(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var g errgroup.Group
	g.SetLimit(together)
	for i := range n {
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

func (d *Driver) now() time.Time { return d.cfg.Now() }

func (d *Driver) schema(kind string) *repo.Schema { return (*d.schemas.Load())[kind] }

func (d *Driver) usable(ctx context.Context) error {
	if d.session.Closed() {
		return translate(ctx, gocql.ErrSessionClosed)
	}
	return ctx.Err()
}

// Features implements repo.Driver.
func (*Driver) Features() repo.Features { return repo.Features{PromptQueries: true, Durable: true} }

// Ping implements repo.Driver.
func (d *Driver) Ping(ctx context.Context) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	var there string
	err := d.query(ctx, `SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?`, d.at.keyspace).Consistency(gocql.LocalOne).Scan(&there)
	return translate(ctx, err)
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

// logger passes on what gocql says, which is about connections.
type logger struct{ to *slog.Logger }

func (l logger) Print(v ...any)                 { l.to.Debug("cql", "message", line(v)) }
func (l logger) Println(v ...any)               { l.to.Debug("cql", "message", line(v)) }
func (l logger) Printf(format string, v ...any) { l.to.Debug("cql", "message", linef(format, v)) }

func misconfigured(format string, args ...any) error {
	return fault.New(fault.Internal, format, args...).WithCode("store_misconfigured")
}
