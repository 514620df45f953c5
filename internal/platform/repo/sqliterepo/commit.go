package sqliterepo

import (
	"context"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/sqlite"
)

// plan is a changeset as SQL: what has to hold, and what is written then. It is
// made by who commits, so that the writer has nothing to do but run it.
type plan struct {
	checks []check
	writes []statement
	taken  error // why the changeset must not happen if the first write's key is there; nil where a check has looked
}

// check is a statement that returns one integer, or no row for 0.
type check struct {
	statement
	want    int64
	refusal error
}

// Commit implements repo.Driver.
func (d *Driver) Commit(ctx context.Context, c *repo.Changeset) error {
	p, err := d.plan(c)
	if err != nil {
		return err
	}
	return d.writer.submit(ctx, &job{do: p.run, messages: len(c.Messages) > 0})
}

func (p *plan) run(c *conn) (refused, failed error) {
	for _, k := range p.checks {
		switch n, err := c.One(k.statement); {
		case err != nil:
			return nil, err
		case n != k.want:
			return k.refusal, nil
		}
	}
	for i, w := range p.writes {
		if err := c.Exec(w); err != nil {
			if i == 0 && p.taken != nil && sqlite.Taken(err) {
				return p.taken, nil
			}
			return nil, err
		}
	}
	return nil, nil
}

const (
	selectMark = "SELECT 1 FROM inbox WHERE consumer = ? AND message = ?"
	insertMark = "INSERT INTO inbox (consumer, message, expires_at) VALUES (?, ?, ?)"
)

func (d *Driver) plan(c *repo.Changeset) (*plan, error) {
	p := &plan{checks: make([]check, 0, len(c.Marks)+len(c.Puts)+len(c.Checks)), writes: make([]statement, 0, len(c.Marks)+len(c.Puts)+len(c.Messages))}
	for _, m := range c.Marks {
		p.checks = append(p.checks, check{newStatement(selectMark, m.Consumer, m.Message), 0, repo.ErrProcessed})
		p.writes = append(p.writes, newStatement(insertMark, m.Consumer, m.Message, micros(m.ExpiresAt)))
	}
	alone := len(c.Marks)+len(c.Puts)+len(c.Checks) == 1
	for i := range c.Puts {
		if err := d.put(p, &c.Puts[i], alone); err != nil {
			return nil, err
		}
	}
	for _, k := range c.Checks {
		t, err := d.tables.of(k.Kind)
		if err != nil {
			return nil, err
		}
		p.checks = append(p.checks, check{newStatement(t.version, k.Tenant, k.ID), k.Version, repo.ErrConflict})
	}
	for i := range c.Messages {
		m := &c.Messages[i]
		outbox := insert(m)
		p.writes = append(p.writes, outbox)
		if m.Keep && m.Sequence > 0 {
			p.writes = append(p.writes, outbox.As(insertHistory))
		}
	}
	return p, nil
}

// put plans a change; alone is one that nothing else of the changeset depends on, or is written before.
func (d *Driver) put(p *plan, put *repo.Put, alone bool) error {
	t, err := d.tables.of(put.Kind)
	if err != nil {
		return err
	}
	refusal := repo.ErrConflict
	if put.Expect == 0 {
		refusal = repo.ErrExists
	}
	if put.Expect == 0 && !put.Erase && alone {
		p.taken = refusal // to add it looks for the key anyway
	} else {
		p.checks = append(p.checks, check{newStatement(t.version, put.Tenant, put.ID), put.Expect, refusal})
	}
	switch {
	case put.Erase:
		p.writes = append(p.writes, newStatement(t.erase, put.Tenant, put.ID), newStatement(eraseHistory, put.Tenant, put.Kind, put.ID))
	case put.Expect == 0:
		p.writes = append(p.writes, t.insertion(put))
	default:
		p.writes = append(p.writes, t.change(put))
	}
	return nil
}

// Purge implements repo.Driver.
func (d *Driver) Purge(ctx context.Context, kind string, now time.Time, limit int) (n int, err error) {
	if kind == "" {
		return d.count(ctx, newStatement("DELETE FROM inbox WHERE (consumer, message) IN (SELECT consumer, message FROM inbox WHERE expires_at <= ? LIMIT ?) RETURNING 1", micros(now), int64(limit)))
	}
	t, err := d.tables.of(kind)
	if err != nil {
		return 0, err
	}
	err = d.writer.run(ctx, func(c *conn) error {
		var keys [][2]value
		err := c.Query(context.Background(), newStatement(t.expired, micros(now), int64(limit)), func(row []value) error {
			keys = append(keys, [2]value{row[0], row[1]})
			return nil
		})
		n = len(keys)
		for _, k := range keys {
			if err == nil {
				err = c.Exec(newStatement(t.erase, k[0], k[1]))
			}
			if err == nil {
				err = c.Exec(newStatement(eraseHistory, k[0], kind, k[1]))
			}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// count has the writer run a statement and returns how many rows it returned.
func (d *Driver) count(ctx context.Context, s statement) (int, error) {
	n := 0
	err := d.writer.run(ctx, func(c *conn) error {
		n = 0
		return c.Query(context.Background(), s, func([]value) error { n++; return nil })
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
