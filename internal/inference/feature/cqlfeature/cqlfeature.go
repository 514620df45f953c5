// Package cqlfeature keeps features in a cluster that speaks CQL, ScyllaDB or Apache
// Cassandra, for any number of nodes.
//
// A partition has the rows of one entity, the latest event first: what was known as of a
// time is one slice of it, of which the server returns the first row that was written by
// then. Rows end by their time to live.
//
// # Reads that repeat
//
// Nodes do not wait for each other. Instead rows are stamped with a time that is Config.Lead
// ahead, and whoever writes them is answered once that has come: nobody reads as of the stamp
// before the rows are there. This holds while a statement takes less than Lead, and clocks
// differ by less than what is left of it; the metric
// sluice_feature_rows_late_total counts rows of which that is not so.
//
// # Limits
//
// A row is one statement: of a call that fails some rows may be there. Forget takes
// rows with it that a node whose clock is behind writes for as long as that behind its answer, and
// nobody is told. An entity's history is
// one partition, which should stay under 100 MB: keep the rows of entities that change all
// the time for less long. Rows that were forgotten come back where a replica was away for
// longer than ten days, unless the table is repaired more often. A row that would end in 2038
// or later is never read beyond its end, but stays in the cluster until it is forgotten.
package cqlfeature

import (
	"context"
	"embed"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
)

//go:embed migrations/*.cql
var migrations embed.FS

// Config holds what a Store may be given; the zero value has defaults.
type Config struct {
	// Lead is how long after it was sent a row counts as known; default 100 ms.
	Lead    time.Duration
	Logger  *slog.Logger          // for what happens to connections; default none
	Metrics prometheus.Registerer // default none
}

// Store is a feature.Store in a cluster.
type Store struct {
	session *cql.Session
	lead    time.Duration
	late    prometheus.Counter
}

var _ feature.Store = (*Store)(nil)

// Open connects to a cluster by a URL, see cql.Parse, and makes what is missing of the
// keyspace and the table.
func Open(ctx context.Context, url string, cfg Config) (*Store, error) {
	at, err := cql.Parse(url)
	if err != nil {
		return nil, err
	}
	s := &Store{lead: cfg.Lead, late: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_feature_rows_late_total", Help: "Rows of features that the cluster took for longer to keep than until they count as known: what was read meanwhile may be read differently again.",
	})}
	if s.lead <= 0 {
		s.lead = 100 * time.Millisecond
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.late); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	if s.session, err = cql.Open(ctx, at, cql.Options{Logger: cfg.Logger}); err != nil {
		return nil, err
	}
	if err := s.session.Migrate(ctx, migrations, func(context.Context) error { return nil }); err != nil {
		s.session.Close()
		return nil, err
	}
	return s, nil
}

// The filter looks at rows of one partition, from the first that may be the answer on.
const latest = `SELECT event, written, until, doc FROM feature_rows WHERE tenant = ? AND feature_view = ? AND entity = ? AND event <= ? AND written <= ? LIMIT 1 ALLOW FILTERING`

// Read implements feature.Store: a statement for each key, some at once.
func (s *Store) Read(ctx context.Context, tenant string, keys []feature.Key, asOf time.Time) ([]feature.Row, error) {
	if err := s.session.Usable(ctx); err != nil {
		return nil, err
	}
	found := make([]feature.Row, len(keys))
	now := time.Now().UnixMicro()
	err := cql.Each(len(keys), func(i int) error {
		var event, written, until int64
		var doc []byte
		k := keys[i]
		there, err := cql.First(s.session.Repeat(ctx, latest, tenant, k.View, k.Entity, asOf.UnixMicro(), asOf.UnixMicro()), &event, &written, &until, &doc)
		if err != nil {
			return err
		}
		if there && until > now { // else those that are older are over, too
			found[i] = feature.Row{Entity: k.Entity, EventTime: time.UnixMicro(event).UTC(), Written: time.UnixMicro(written).UTC(), Values: json.RawMessage(doc)}
		}
		return nil
	})
	if err != nil {
		return nil, cql.Translate(ctx, err)
	}
	return found, nil
}

// Forget implements feature.Store. What any node has sent before is removed, also by a clock
// that is ahead of this one's; what is written behind it stays.
func (s *Store) Forget(ctx context.Context, tenant string, key feature.Key) error {
	at := time.Now().Add(s.lead)
	err := s.session.Repeat(ctx, `DELETE FROM feature_rows USING TIMESTAMP ? WHERE tenant = ? AND feature_view = ? AND entity = ?`, at.UnixMicro(), tenant, key.View, key.Entity).Exec()
	if err != nil {
		return cql.Translate(ctx, err)
	}
	return settled(ctx, at)
}

// settled waits until a time has come.
func settled(ctx context.Context, at time.Time) error {
	if wait := time.Until(at); wait >= 0 && !pause.For(ctx, wait+time.Microsecond) {
		return ctx.Err()
	}
	return nil
}

// Expire implements feature.Store: rows end by themselves.
func (*Store) Expire(context.Context, time.Time) error { return nil }

// Ping implements feature.Store.
func (s *Store) Ping(ctx context.Context) error { return s.session.Ping(ctx) }

// Close implements feature.Store.
func (s *Store) Close() error {
	s.session.Close()
	return nil
}
