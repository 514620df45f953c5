// Package cql opens clusters that speak CQL, ScyllaDB and Apache Cassandra, the way
// every adapter here uses them: pools to all nodes that are made again for ever, a
// keyspace that is made where it is missing, migrations that one process does while
// the others wait, errors that say whether to try again.
package cql

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"

	"sluice/internal/platform/pause"
)

// Options are what a session may be given; the zero value has defaults.
type Options struct {
	Logger *slog.Logger               // for what happens to connections; default none
	Now    func() time.Time           // default time.Now
	Tune   func(*gocql.ClusterConfig) // for tests
}

// Session is a session in a keyspace. It is safe for concurrent use.
type Session struct {
	*gocql.Session
	Target
	now func() time.Time
}

// Open connects to a cluster, and makes the keyspace where it is missing and the URL
// does not forbid it. It fails with fault.Unavailable where no node answers; later it
// waits for nodes to come back.
func Open(ctx context.Context, at Target, o Options) (*Session, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := makeKeyspace(ctx, at, o); err != nil {
		return nil, Translate(ctx, err)
	}
	session, err := enter(ctx, at, o)
	if err != nil {
		return nil, Translate(ctx, err)
	}
	return &Session{session, at, o.Now}, nil
}

// enterAttempts is how often a session in the keyspace is tried, some seconds in all.
const enterAttempts = 10

// enter makes a session in the keyspace. Nodes list one a moment before they let anybody
// in, and another process may be making it; the library tells that apart by its text only,
// and the cluster has answered just now, so whatever is wrong is tried again.
func enter(ctx context.Context, at Target, o Options) (*gocql.Session, error) {
	for attempt := 1; ; attempt++ {
		session, err := connect(at, o, at.Keyspace)
		if err == nil || attempt == enterAttempts || !BackOff(ctx, attempt) {
			return session, err
		}
	}
}

// connect makes a session: pools to all nodes, that are made again for ever.
func connect(at Target, o Options, keyspace string) (*gocql.Session, error) {
	c := gocql.NewCluster(at.Hosts...)
	c.Keyspace = keyspace
	c.Consistency, c.SerialConsistency = at.Consistency, at.Serial
	c.Timeout, c.ReadTimeout, c.WriteTimeout, c.ConnectTimeout = at.timeout, at.timeout, at.timeout, at.timeout
	c.Logger = logger{o.Logger}
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
	if o.Tune != nil {
		o.Tune(c)
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

// Repeat is a statement that may be repeated.
func (s *Session) Repeat(ctx context.Context, text string, args ...any) *gocql.Query {
	return s.Query(text, args...).WithContext(ctx).Idempotent(true)
}

// Usable says whether statements can be made: the session is open, and ctx has not ended.
func (s *Session) Usable(ctx context.Context) error {
	if s.Closed() {
		return Translate(ctx, gocql.ErrSessionClosed)
	}
	return ctx.Err()
}

// Ping asks a node for the keyspace.
func (s *Session) Ping(ctx context.Context) error {
	if err := s.Usable(ctx); err != nil {
		return err
	}
	var there string
	err := s.Repeat(ctx, `SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?`, s.Keyspace).Consistency(gocql.LocalOne).Scan(&there)
	return Translate(ctx, err)
}

// Together is how many statements of one call are in flight.
const Together = 16

// First scans the first row of a query, and says whether there is one. Query.Scan finds none
// where the first page is empty and others follow, as those are of what is filtered or deleted.
func First(q *gocql.Query, dest ...any) (bool, error) {
	iter := q.Iter()
	found := iter.Scan(dest...)
	err := iter.Close()
	return found && err == nil, err
}

// Each calls f for 0 to n-1, Together at once, and returns the first error, behind which it
// begins no more.
func Each(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var g errgroup.Group
	var failed atomic.Bool
	g.SetLimit(Together)
	for i := 0; i < n && !failed.Load(); i++ {
		g.Go(func() error {
			err := f(i)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	return g.Wait()
}

// BackOff waits before a statement is tried again, longer with each attempt, and says
// whether ctx goes on.
func BackOff(ctx context.Context, attempt int) bool {
	return pause.For(ctx, rand.N(20*time.Millisecond<<min(attempt, 6)))
}

// Seconds returns a time to live. More than 20 years is more than CQL takes.
func Seconds(d time.Duration) int {
	return int(min(max(d, time.Second), 20*365*24*time.Hour) / time.Second)
}

// logger passes on what gocql says, which is about connections.
type logger struct{ to *slog.Logger }

func (l logger) Print(v ...any)                 { l.to.Debug("cql", "message", line(v)) }
func (l logger) Println(v ...any)               { l.to.Debug("cql", "message", line(v)) }
func (l logger) Printf(format string, v ...any) { l.to.Debug("cql", "message", linef(format, v)) }

func line(v []any) string                 { return strings.TrimSpace(fmt.Sprintln(v...)) }
func linef(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
