// Package tracerepo shows what a store does: a span and a measured time for each
// call of a repo.Driver.
//
//	driver = tracerepo.New(driver, tracer, registry)
//
// Spans are those of clients, named repo.get, repo.commit and so on. They carry
// the kind, numbers, and the code of an error; never ids, tenants or values.
//
// Known limits: the outbox is polled without end, so its calls have spans only
// within a trace that somebody else began. A conflict or a missing record is no
// error of the span, its code is shown all the same.
package tracerepo

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// New returns the driver with its calls traced and measured. A nil tracer, or
// noop's, costs nothing, a nil registerer neither; with both the driver is
// returned as it is. An error says that the metrics are registered already.
func New(driver repo.Driver, tracer trace.Tracer, registerer prometheus.Registerer) (repo.Driver, error) {
	if _, off := tracer.(noop.Tracer); off {
		tracer = nil
	}
	if tracer == nil && registerer == nil {
		return driver, nil
	}
	ops, err := newOperations(tracer, registerer)
	if err != nil {
		return nil, err
	}
	return &traced{driver, ops}, nil
}

// traced passes on what is not a call to the store: Shards, Changed, Features,
// Close.
type traced struct {
	repo.Driver
	*operations
}

func (d *traced) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	ctx, c := d.get.begin(ctx, key.Kind)
	r, err := d.Driver.Get(ctx, key)
	c.end(err)
	return r, err
}

func (d *traced) Find(ctx context.Context, s *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	ctx, c := d.find.begin(ctx, s.Kind)
	found, err := d.Driver.Find(ctx, s, q)
	c.count("sluice.records", len(found))
	c.end(err)
	return found, err
}

func (d *traced) Summarise(ctx context.Context, s *repo.Schema, q *repo.SummaryQuery) ([]spec.Group, error) {
	ctx, c := d.summarise.begin(ctx, s.Kind)
	groups, err := d.Driver.Summarise(ctx, s, q)
	c.count("sluice.groups", len(groups))
	c.end(err)
	return groups, err
}

func (d *traced) History(ctx context.Context, key repo.Key, after int64, limit int) ([]repo.Message, error) {
	ctx, c := d.history.begin(ctx, key.Kind)
	messages, err := d.Driver.History(ctx, key, after, limit)
	c.count("sluice.messages", len(messages))
	c.end(err)
	return messages, err
}

func (d *traced) Commit(ctx context.Context, set *repo.Changeset) error {
	kind := ""
	if len(set.Puts) > 0 {
		kind = set.Puts[0].Kind
	}
	ctx, c := d.commit.begin(ctx, kind)
	err := d.Driver.Commit(ctx, set)
	c.count("sluice.records", len(set.Puts))
	c.count("sluice.messages", len(set.Messages))
	c.end(err)
	return err
}

func (d *traced) Pending(ctx context.Context, shard, limit int) ([]repo.Message, error) {
	ctx, c := d.pending.begin(ctx, "")
	messages, err := d.Driver.Pending(ctx, shard, limit)
	c.count("sluice.messages", len(messages))
	c.end(err)
	return messages, err
}

func (d *traced) Published(ctx context.Context, shard int, ids []repo.Message, at time.Time) error {
	ctx, c := d.published.begin(ctx, "")
	err := d.Driver.Published(ctx, shard, ids, at)
	c.count("sluice.messages", len(ids))
	c.end(err)
	return err
}

func (d *traced) Republish(ctx context.Context, shard int, within time.Duration, since time.Time) (int, error) {
	ctx, c := d.republish.begin(ctx, "")
	n, err := d.Driver.Republish(ctx, shard, within, since)
	c.count("sluice.messages", n)
	c.end(err)
	return n, err
}

func (d *traced) Trim(ctx context.Context, shard int, before time.Time, limit int) (int, error) {
	ctx, c := d.trim.begin(ctx, "")
	n, err := d.Driver.Trim(ctx, shard, before, limit)
	c.count("sluice.messages", n)
	c.end(err)
	return n, err
}

func (d *traced) Backlog(ctx context.Context, shard int) (int, time.Time, error) {
	ctx, c := d.backlog.begin(ctx, "")
	n, oldest, err := d.Driver.Backlog(ctx, shard)
	c.count("sluice.messages", n)
	c.end(err)
	return n, oldest, err
}

func (d *traced) Migrate(ctx context.Context, schemas []*repo.Schema) error {
	ctx, c := d.migrate.begin(ctx, "")
	err := d.Driver.Migrate(ctx, schemas)
	c.end(err)
	return err
}

func (d *traced) Purge(ctx context.Context, kind string, now time.Time, limit int) (int, error) {
	ctx, c := d.purge.begin(ctx, kind)
	n, err := d.Driver.Purge(ctx, kind, now, limit)
	c.count("sluice.records", n)
	c.end(err)
	return n, err
}

func (d *traced) Ping(ctx context.Context) error {
	ctx, c := d.ping.begin(ctx, "")
	err := d.Driver.Ping(ctx)
	c.end(err)
	return err
}
