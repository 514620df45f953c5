package scyllarepo

import (
	"context"
	"errors"
	"fmt"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Commit implements repo.Driver.
func (d *Driver) Commit(ctx context.Context, c *repo.Changeset) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	if c.Empty() {
		return nil
	}
	w, err := arrange(c, d.now())
	if err != nil {
		return err
	}
	// From here on it is finished, whoever still waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.CommitTimeout)
	defer cancel()
	if !w.alone() {
		if err := d.claim(ctx, w); err != nil {
			return err
		}
	}
	if err = d.commit(ctx, w); err != nil && !errors.Is(err, repo.ErrOutcomeUnknown) && !w.alone() {
		d.release(ctx, w)
	}
	return err
}

// commit commits what has claimed its marks.
func (d *Driver) commit(ctx context.Context, w *work) error {
	if w.put != nil {
		if err := d.follow(ctx, w); err != nil {
			return err
		}
	} else if w.eventsOnly() {
		old, err := d.read(ctx, w.key, false)
		if err != nil {
			return err
		}
		w.state.stamp = old.nextStamp(w.at) - 1 // before all that may follow
	}
	hints := without(w.state.entries(), w.before)
	if err := d.prepare(ctx, w, hints); err != nil {
		return cql.Translate(ctx, err)
	}
	batch, err := d.batch(w)
	if err != nil {
		return err
	}
	if d.cfg.beforeBatch != nil {
		if err := d.cfg.beforeBatch(); err != nil {
			return err
		}
	}
	err = d.settle(ctx, w, batch)
	d.afterwards(ctx, w, hints, err)
	return err
}

// follow reads what the changeset changes, and computes what it will be.
func (d *Driver) follow(ctx context.Context, w *work) error {
	old, err := d.read(ctx, w.key, false)
	if err != nil {
		return err
	}
	if old.Version != w.put.Expect { // or is about to be
		if _, err := d.verdict(ctx, w); err != nil {
			return cql.Translate(ctx, err)
		}
		if old, err = d.read(ctx, w.key, true); err != nil {
			return err
		}
		if old.Version != w.put.Expect {
			return repo.ErrConflict
		}
	}
	w.before = old.entries()
	w.state = state{Record: w.put.Record, found: !w.put.Erase, stamp: old.nextStamp(w.at)}
	if w.put.Erase {
		return nil
	}
	schema := d.schema(w.key.Kind)
	if schema == nil || len(schema.Columns) != len(w.put.Fields) {
		return fault.New(fault.Internal, "%s with %d fields: Migrate was not told of them", w.key.Kind, len(w.put.Fields))
	}
	w.state.fields = make(map[string][]byte, len(w.put.Fields))
	for i, c := range schema.Columns {
		w.state.fields[c.Name] = encode(w.put.Fields[i])
	}
	return nil
}

// prepare writes the hints that lead to what will be committed.
func (d *Driver) prepare(ctx context.Context, w *work, hints []entry) error {
	if len(w.Messages) > 0 {
		if err := d.owe(ctx, w.key, w.commit); err != nil {
			return err
		}
	}
	return d.put(ctx, hints, w.state.stamp)
}

// afterwards removes the hints that lead nowhere now. Of an unknown outcome all
// stay.
func (d *Driver) afterwards(ctx context.Context, w *work, hints []entry, err error) {
	if d.cfg.afterCommit != nil && !d.cfg.afterCommit(err) {
		return
	}
	switch {
	case err == nil:
		d.discard(without(w.before, w.state.entries()), w.state.stamp-1)
		if len(w.Messages) > 0 {
			d.signal()
		}
	case !errors.Is(err, repo.ErrOutcomeUnknown):
		if len(w.Messages) > 0 {
			_ = d.paid(ctx, shardOf(w.key), w.commit) // Pending removes it otherwise
		}
		// The winner may have the same entries: only what it contradicts goes.
		if now, err := d.read(ctx, w.key, false); err == nil && len(hints) > 0 {
			d.discard(without(hints, now.entries()), now.removal(d.now()))
		}
	}
}

func (d *Driver) batch(w *work) (func(context.Context) *gocql.Batch, error) {
	all, err := w.statements()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) *gocql.Batch {
		b := d.session.Batch(gocql.UnloggedBatch).WithContext(ctx).RetryPolicy(&gocql.SimpleRetryPolicy{})
		for _, s := range all {
			b.Query(s.text, s.args...)
		}
		if w.conditional() {
			return b.SerialConsistency(d.session.Serial).DefaultTimestamp(false)
		}
		return b.WithTimestamp(w.at.UnixMicro())
	}, nil
}

// settle executes the batch until it is known what became of it, or ctx ends.
func (d *Driver) settle(ctx context.Context, w *work, batch func(context.Context) *gocql.Batch) error {
	unknown, patient := false, context.WithoutCancel(ctx) // its end is the store's fault
	for attempt := 0; ; attempt++ {
		applied, err := d.try(w, batch(ctx))
		switch {
		case err != nil:
			unknown = unknown || !cql.NotDone(err)
		case !applied:
			applied, err = d.verdict(ctx, w)
		}
		switch {
		case applied:
			d.metrics.resolved(unknown)
			return nil
		case err != nil && (isVerdict(err) || !unknown && cql.NotDone(err)):
			d.metrics.resolved(unknown)
			return cql.Translate(patient, err)
		}
		if !cql.BackOff(ctx, attempt) {
			if !unknown {
				return cql.Translate(patient, errors.Join(err, ctx.Err()))
			}
			d.metrics.unresolved()
			return fmt.Errorf("%w: %w", repo.ErrOutcomeUnknown, errors.Join(err, ctx.Err()))
		}
	}
}

// try executes the batch once and says whether it was applied.
func (d *Driver) try(w *work, b *gocql.Batch) (bool, error) {
	d.metrics.tried()
	if !w.conditional() {
		err := b.Exec()
		return err == nil, err
	}
	// Of a batch that was not applied ScyllaDB returns a row for each condition,
	// Cassandra those that failed: neither says all that is wanted here.
	applied, iter, err := d.session.MapExecuteBatchCAS(b, map[string]any{})
	if iter != nil {
		err = errors.Join(err, iter.Close())
	}
	return applied && err == nil, err
}

// verdict says why a batch was not applied: it was before, or something forbids
// it for good. Where neither is so it may be repeated.
func (d *Driver) verdict(ctx context.Context, w *work) (applied bool, err error) {
	done, proof := [2]string{partDone, w.commit.String()}, [2]string{partMark, w.commit.String()}
	seen, version, err := d.rows(ctx, w.key, [3][2]string{{partState, ""}, done, proof})
	switch {
	case err != nil || seen[done]:
		return seen[done], err
	case seen[proof]: // to the contrary: somebody took the mark away
		return false, repo.ErrConflict
	case w.put != nil && version != w.put.Expect && w.put.Expect == 0:
		return false, repo.ErrExists
	case w.put != nil && version != w.put.Expect, w.check != nil && version != w.check.Version:
		return false, repo.ErrConflict
	case w.alone():
		return false, d.settleClaim(ctx, w, w.Marks[0])
	}
	return false, nil
}

// rows returns which of three rows are there, and the record's version.
func (d *Driver) rows(ctx context.Context, key repo.Key, rows [3][2]string) (map[[2]string]bool, int64, error) {
	text := `SELECT part, ref, version FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND (part, ref) IN ((?, ?), (?, ?), (?, ?))`
	args := []any{key.Tenant, key.Kind, key.ID}
	for _, row := range rows {
		args = append(args, row[0], row[1])
	}
	iter := d.query(ctx, text, args...).Consistency(d.session.Serial).Iter()
	seen := map[[2]string]bool{}
	var row [2]string
	var version int64
	var v *int64
	for iter.Scan(&row[0], &row[1], &v) {
		seen[row] = true
		if row[0] == partState && v != nil {
			version = *v
		}
	}
	return seen, version, iter.Close()
}

func isVerdict(err error) bool {
	return errors.Is(err, repo.ErrProcessed) || errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrConflict)
}
