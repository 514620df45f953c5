package scyllarepo

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// inbox is the kind of the partitions of marks.
const inbox = "~inbox"

// A mark belongs to a partition of its own, which whoever handles the message
// finds, whatever it changes then. A commit that changes an aggregate cannot
// write there as well. So it claims the mark first: the claim names the commit
// and its aggregate, where the commit then writes a proof, under its name and if
// there is none. Who finds a claim of somebody else writes a proof to the
// contrary there, if there is none: either the claim was redeemed, and the
// message was handled, or it never will be, and may be removed.

// claim is the row of a mark.
type claim struct {
	commit  gocql.UUID
	key     repo.Key
	expires time.Time
}

func markKey(m repo.Mark) repo.Key {
	return repo.Key{Kind: inbox, ID: m.Consumer + "\x00" + m.Message}
}

const (
	insertClaim = `INSERT INTO aggregates (tenant, kind, id, part, ref, due, data, expires_at) VALUES (?, ?, ?, 'mark', '', ?, ?, ?) IF NOT EXISTS USING TTL ?`
	removeClaim = `DELETE FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'mark' AND ref = '' IF due = ?`
	insertProof = `INSERT INTO aggregates (tenant, kind, id, part, ref, keep) VALUES (?, ?, ?, 'mark', ?, ?) IF NOT EXISTS USING TTL ?`
)

// claimOf is the statement that claims a mark for a commit.
func (w *work) claimOf(m repo.Mark) (statement, error) {
	target, err := json.Marshal(w.key)
	if err != nil {
		return statement{}, fault.Wrap(fault.Internal, err, "a key cannot be encoded")
	}
	k := markKey(m)
	return statement{insertClaim, []any{k.Tenant, k.Kind, k.ID, w.commit, target, micros(m.ExpiresAt), w.markSeconds()}}, nil
}

// markSeconds is how long the marks of a commit, and what proves them, live.
func (w *work) markSeconds() int {
	left := markFor
	for _, m := range w.Marks {
		left = max(left, m.ExpiresAt.Sub(w.at))
	}
	return cql.Seconds(left)
}

// claim claims the marks of a commit, or fails with ErrProcessed.
func (d *Driver) claim(ctx context.Context, w *work) error {
	for _, m := range w.Marks {
		s, err := w.claimOf(m)
		if err != nil {
			return err
		}
		for attempt := 0; ; attempt++ {
			applied, err := d.cas(ctx, s.text, s.args...)
			if err == nil && applied {
				break
			}
			if err == nil {
				if err = d.settleClaim(ctx, w, m); errors.Is(err, repo.ErrProcessed) {
					return err
				}
			}
			if err != nil && cql.NotDone(err) || !cql.BackOff(ctx, attempt) {
				return cql.Translate(context.WithoutCancel(ctx), errors.Join(err, ctx.Err()))
			}
		}
	}
	return nil
}

// settleClaim looks at the claim on a mark: ErrProcessed where it was redeemed.
// Where it cannot be any more it is removed.
func (d *Driver) settleClaim(ctx context.Context, w *work, m repo.Mark) error {
	key := markKey(m)
	c, err := d.readClaim(ctx, key)
	if err != nil || c == nil || c.commit == w.commit && c.key != key {
		return err
	}
	forgotten := !c.expires.IsZero() && c.expires.UnixMicro() <= d.forgotten.Load()
	if !forgotten {
		if c.key == key { // by itself: the claim is the mark
			return repo.ErrProcessed
		}
		redeemed, err := d.redeemed(ctx, c, w.markSeconds())
		if err != nil {
			return err
		}
		if redeemed {
			return repo.ErrProcessed
		}
	}
	_, err = d.cas(ctx, removeClaim, key.Tenant, key.Kind, key.ID, c.commit)
	return err
}

func (d *Driver) readClaim(ctx context.Context, key repo.Key) (*claim, error) {
	var c claim
	var target []byte
	var expires *int64
	err := d.query(ctx, `SELECT due, data, expires_at FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'mark' AND ref = ''`,
		key.Tenant, key.Kind, key.ID).Consistency(d.session.Serial).Scan(&c.commit, &target, &expires)
	if errors.Is(err, gocql.ErrNotFound) {
		return nil, nil //nolint:nilnil // no claim is no error
	}
	if err != nil {
		return nil, err
	}
	c.expires = fromMicros(expires)
	if err := json.Unmarshal(target, &c.key); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "a mark in the store cannot be decoded")
	}
	return &c, nil
}

// redeemed says whether the commit of a claim happened; where it did not, it
// cannot any more.
func (d *Driver) redeemed(ctx context.Context, c *claim, ttl int) (bool, error) {
	if _, err := d.cas(ctx, insertProof, c.key.Tenant, c.key.Kind, c.key.ID, c.commit.String(), false, ttl); err != nil {
		return false, err
	}
	var happened bool
	err := d.query(ctx, `SELECT keep FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'mark' AND ref = ?`,
		c.key.Tenant, c.key.Kind, c.key.ID, c.commit.String()).Consistency(d.session.Serial).Scan(&happened)
	return happened, err
}

// release gives up the claims of a commit that did not happen. One that stays is
// found not to be redeemed.
func (d *Driver) release(ctx context.Context, w *work) {
	for _, m := range w.Marks {
		k := markKey(m)
		_, _ = d.cas(ctx, removeClaim, k.Tenant, k.Kind, k.ID, w.commit)
	}
}

// cas executes a conditional statement once and says whether it was applied.
func (d *Driver) cas(ctx context.Context, text string, args ...any) (bool, error) {
	return d.session.Query(text, args...).WithContext(ctx).RetryPolicy(&gocql.SimpleRetryPolicy{}).
		SerialConsistency(d.session.Serial).MapScanCAS(map[string]any{})
}
