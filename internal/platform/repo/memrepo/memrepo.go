// Package memrepo is a repo.Driver in memory: for tests, and the reference for
// what a driver does. It keeps nothing beyond the process, and finds by looking
// at every record of a kind.
package memrepo

import (
	"context"
	"slices"
	"sync"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Config holds what a Driver may be given.
type Config struct {
	// OneAggregate refuses changesets of several aggregates, as a store does that
	// commits a single partition.
	OneAggregate bool
}

// Driver is a store in memory.
type Driver struct {
	cfg     Config
	changed chan struct{}

	mu      sync.RWMutex
	records map[repo.Key]repo.Record
	history map[repo.Key][]repo.Message
	outbox  []outgoing
	marks   map[repo.Mark]time.Time // when they may be forgotten; the keys have no time
	closed  bool
}

// outgoing is a message in the outbox; published is zero while it is pending.
type outgoing struct {
	repo.Message
	published time.Time
}

var _ repo.Driver = (*Driver)(nil)

// New returns an empty store.
func New(cfg Config) *Driver {
	return &Driver{cfg: cfg, changed: make(chan struct{}, 1), records: map[repo.Key]repo.Record{},
		history: map[repo.Key][]repo.Message{}, marks: map[repo.Mark]time.Time{}}
}

// Features implements repo.Driver.
func (d *Driver) Features() repo.Features {
	return repo.Features{MultiAggregate: !d.cfg.OneAggregate, AnyQuery: true, Summaries: true, PromptQueries: true}
}

// Migrate implements repo.Driver.
func (d *Driver) Migrate(ctx context.Context, schemas []*repo.Schema) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	for _, s := range schemas {
		for key, r := range d.records {
			if key.Kind != s.Kind || len(r.Fields) == len(s.Columns) {
				continue
			}
			if err := s.Refill(&r); err != nil {
				return err
			}
			d.records[key] = r
		}
	}
	return nil
}

// Ping implements repo.Driver.
func (d *Driver) Ping(ctx context.Context) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.usable(ctx)
}

// Close implements repo.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

func (d *Driver) usable(ctx context.Context) error {
	if d.closed {
		return fault.New(fault.Unavailable, "the store is closed").WithCode("store_closed")
	}
	return ctx.Err()
}

// Get implements repo.Driver.
func (d *Driver) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return repo.Record{}, err
	}
	r, ok := d.records[key]
	if !ok {
		return repo.Record{}, repo.ErrNotFound
	}
	return r, nil
}

// Find implements repo.Driver.
func (d *Driver) Find(ctx context.Context, s *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	found, err := d.selected(ctx, s, q)
	slices.SortFunc(found, func(a, b repo.Record) int { return q.Compare(s, &a, &b) })
	return found[:min(len(found), q.Limit)], err
}

func (d *Driver) selected(ctx context.Context, s *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	var found []repo.Record
	for _, r := range d.records {
		if q.Selects(s, &r) {
			found = append(found, r)
		}
	}
	return found, nil
}

// History implements repo.Driver.
func (d *Driver) History(ctx context.Context, key repo.Key, after int64, limit int) ([]repo.Message, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	var out []repo.Message
	for _, m := range d.history[key] {
		if m.Sequence > after && len(out) < limit {
			out = append(out, m)
		}
	}
	return out, nil
}

// Commit implements repo.Driver.
func (d *Driver) Commit(ctx context.Context, c *repo.Changeset) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	if n := aggregates(c); d.cfg.OneAggregate && n > 1 {
		return fault.New(fault.Unsupported, "this store changes one aggregate in a unit of work, got %d", n).WithCode("one_aggregate_only")
	}
	if err := d.check(c); err != nil {
		return err
	}
	for _, p := range c.Puts {
		if p.Erase {
			delete(d.records, p.Key)
			delete(d.history, p.Key)
			continue
		}
		d.records[p.Key] = p.Record
	}
	for _, m := range c.Marks {
		until := m.ExpiresAt
		m.ExpiresAt = time.Time{}
		d.marks[m] = until
	}
	for _, m := range c.Messages {
		d.outbox = append(d.outbox, outgoing{Message: m})
		if m.Keep {
			d.history[m.Key] = append(d.history[m.Key], m)
		}
	}
	if len(c.Messages) > 0 {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// aggregates counts those that a changeset puts or checks.
func aggregates(c *repo.Changeset) int {
	keys := map[repo.Key]bool{}
	for _, p := range c.Puts {
		keys[p.Key] = true
	}
	for _, k := range c.Checks {
		keys[k.Key] = true
	}
	return len(keys)
}

// check says whether the changeset may happen.
func (d *Driver) check(c *repo.Changeset) error {
	for _, m := range c.Marks {
		m.ExpiresAt = time.Time{}
		if _, there := d.marks[m]; there {
			return repo.ErrProcessed
		}
	}
	for _, p := range c.Puts {
		switch version := d.records[p.Key].Version; {
		case version == p.Expect:
		case p.Expect == 0:
			return repo.ErrExists
		default:
			return repo.ErrConflict
		}
	}
	for _, k := range c.Checks {
		if d.records[k.Key].Version != k.Version {
			return repo.ErrConflict
		}
	}
	return nil
}

// Purge implements repo.Driver.
func (d *Driver) Purge(ctx context.Context, kind string, now time.Time, limit int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	n := 0
	if kind == "" {
		for m, until := range d.marks {
			if !now.Before(until) && n < limit {
				delete(d.marks, m)
				n++
			}
		}
		return n, nil
	}
	for key, r := range d.records {
		if key.Kind == kind && r.Expired(now) && n < limit {
			delete(d.records, key)
			delete(d.history, key)
			n++
		}
	}
	return n, nil
}

// Summarise implements repo.Driver.
func (d *Driver) Summarise(ctx context.Context, s *repo.Schema, q *repo.SummaryQuery) ([]spec.Group, error) {
	records, err := d.selected(ctx, s, &repo.FindQuery{Tenant: q.Tenant, Where: q.Where, Deleted: q.Deleted, Now: q.Now})
	if err != nil {
		return nil, err
	}
	groups := map[spec.Value][]repo.Record{}
	for _, r := range records {
		var by spec.Value
		if q.By != "" {
			by = r.Fields[s.Index(q.By)]
		}
		groups[by] = append(groups[by], r)
	}
	var out []spec.Group
	for by, members := range groups {
		g := spec.Group{By: by}
		for _, m := range q.Measures {
			g.Values = append(g.Values, measure(s, m, members))
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b spec.Group) int { return a.By.Compare(b.By) })
	return out, nil
}

func measure(s *repo.Schema, m spec.Measure, records []repo.Record) spec.Value {
	if m.Function == spec.Count {
		return spec.IntValue(int64(len(records)))
	}
	i := s.Index(m.Field)
	best := records[0].Fields[i]
	var n int64
	var f float64
	for _, r := range records {
		v := r.Fields[i]
		n += v.Int
		f += v.Float
		if c := v.Compare(best); m.Function == spec.Min && c < 0 || m.Function == spec.Max && c > 0 {
			best = v
		}
	}
	isInt := best.Type == spec.TypeInt
	switch {
	case m.Function == spec.Sum && isInt:
		return spec.IntValue(n)
	case m.Function == spec.Sum:
		return spec.FloatValue(f)
	case m.Function == spec.Avg && isInt:
		return spec.FloatValue(float64(n) / float64(len(records)))
	case m.Function == spec.Avg:
		return spec.FloatValue(f / float64(len(records)))
	default:
		return best
	}
}
