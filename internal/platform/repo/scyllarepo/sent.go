package scyllarepo

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
)

// Published implements repo.Outbox. The rows move to outbox_sent: they are
// written there first, so a crash leaves some in both, and publishes them twice.
func (d *Driver) Published(ctx context.Context, n int, messages []repo.Message, at time.Time) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	rows, err := d.places(ctx, n, messages)
	if err != nil {
		return cql.Translate(ctx, err)
	}
	m := minuteOf(at)
	if err := d.open(ctx, queueSent(n), m); err != nil {
		return cql.Translate(ctx, err)
	}
	err = cql.Each(len(rows), func(i int) error {
		r := rows[i]
		head, data, err := encodeMessage(r.Message)
		if err != nil {
			return err
		}
		err = d.query(ctx, `INSERT INTO outbox_sent (shard, minute, at, ref, tenant, kind, id, message, data, keep, stamp) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			n, m, at.UnixMicro(), r.ref, r.key.Tenant, r.key.Kind, r.key.ID, head, data, r.Keep, r.removal()).Exec()
		if err != nil {
			return err
		}
		return d.query(ctx, `DELETE FROM aggregates USING TIMESTAMP ? WHERE tenant = ? AND kind = ? AND id = ? AND part = 'out' AND ref = ?`,
			r.removal(), r.key.Tenant, r.key.Kind, r.key.ID, r.ref).Exec()
	})
	if err != nil {
		return cql.Translate(ctx, err)
	}
	d.forget(n, messages)
	// A hint goes with the last message of its changeset. Where they are marked
	// by and by it stays until it is old.
	gone := map[gocql.UUID]int{}
	var whole []gocql.UUID
	for _, r := range rows {
		if gone[r.due]++; gone[r.due] == r.size {
			whole = append(whole, r.due)
		}
	}
	return cql.Translate(ctx, cql.Each(len(whole), func(i int) error { return d.paid(ctx, n, whole[i]) }))
}

// places returns where messages are in the outbox. Those that are there no more
// were published already.
func (d *Driver) places(ctx context.Context, n int, messages []repo.Message) ([]outRow, error) {
	s := &d.shards[n]
	rows := make([]outRow, 0, len(messages))
	var unplaced []repo.Message
	s.mu.Lock()
	for _, m := range messages {
		r, ok := s.placed[m.ID]
		if !ok {
			unplaced = append(unplaced, m)
			continue
		}
		r.Message = m
		rows = append(rows, r)
	}
	s.mu.Unlock()
	looked := map[repo.Key]map[string]outRow{}
	for _, m := range unplaced {
		if looked[m.Key] == nil {
			looked[m.Key] = map[string]outRow{}
			found, err := d.out(ctx, m.Key, maxPlaced, false)
			if err != nil {
				return nil, err
			}
			for _, r := range found {
				looked[m.Key][r.ID] = r
			}
		}
		if r, ok := looked[m.Key][m.ID]; ok {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func (d *Driver) forget(n int, messages []repo.Message) {
	s := &d.shards[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		delete(s.placed, m.ID)
	}
}

// sentRow is a message that was published.
type sentRow struct {
	key        repo.Key
	at         int64
	ref        string
	head, data []byte
	keep       bool
	stamp      int64
}

// Republish implements repo.Outbox.
func (d *Driver) Republish(ctx context.Context, n int, within time.Duration, since time.Time) (int, error) {
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	minutes, from, err := d.latest(ctx, n, within, since)
	if err != nil {
		return 0, cql.Translate(ctx, err)
	}
	total := 0
	for _, m := range minutes {
		rows, err := d.sent(ctx, n, m, from)
		if err != nil {
			return total, cql.Translate(ctx, err)
		}
		if err := cql.Each(len(rows), func(i int) error { return d.unsend(ctx, n, m, rows[i]) }); err != nil {
			return total, cql.Translate(ctx, err)
		}
		total += len(rows)
	}
	if total > 0 {
		d.signal()
	}
	return total, nil
}

// latest returns the minutes with what was published within so long before the last that
// was, and at since or later, in their order, and when that begins.
func (d *Driver) latest(ctx context.Context, n int, within time.Duration, since time.Time) ([]int64, int64, error) {
	minutes, err := d.listed(ctx, queueSent(n), minuteOf(since), 1<<40)
	slices.Sort(minutes)
	for i := len(minutes) - 1; err == nil && i >= 0; i-- {
		rows, failed := d.sent(ctx, n, minutes[i], since.UnixMicro())
		if err = failed; len(rows) == 0 {
			continue
		}
		last := slices.MaxFunc(rows, func(a, b sentRow) int { return cmp.Compare(a.at, b.at) })
		from := max(last.at-within.Microseconds(), since.UnixMicro())
		first, _ := slices.BinarySearch(minutes, minuteOf(time.UnixMicro(from)))
		return minutes[first:], from, err
	}
	return nil, 0, err
}

func (d *Driver) sent(ctx context.Context, n int, m, since int64) ([]sentRow, error) {
	iter := d.query(ctx, `SELECT at, ref, tenant, kind, id, message, data, keep, stamp FROM outbox_sent WHERE shard = ? AND minute = ? AND at >= ?`, n, m, since).Iter()
	var out []sentRow
	for {
		var r sentRow
		if !iter.Scan(&r.at, &r.ref, &r.key.Tenant, &r.key.Kind, &r.key.ID, &r.head, &r.data, &r.keep, &r.stamp) {
			return out, iter.Close()
		}
		out = append(out, r)
	}
}

// unsend moves a message back: first the hint, then the message, and then it is
// forgotten here, so that no crash loses it.
func (d *Driver) unsend(ctx context.Context, n int, m int64, r sentRow) error {
	due := gocql.UUIDFromTime(d.now())
	if err := d.owe(ctx, r.key, due); err != nil {
		return err
	}
	err := d.query(ctx, insertOut+` USING TIMESTAMP ?`, r.key.Tenant, r.key.Kind, r.key.ID, r.ref, r.head, r.data, r.keep, due, 1, r.stamp+1).Exec()
	if err != nil {
		return err
	}
	return d.query(ctx, `DELETE FROM outbox_sent WHERE shard = ? AND minute = ? AND at = ? AND tenant = ? AND kind = ? AND id = ? AND ref = ?`,
		n, m, r.at, r.key.Tenant, r.key.Kind, r.key.ID, r.ref).Exec()
}

// Trim implements repo.Outbox. What nobody trims ends after 30 days.
func (d *Driver) Trim(ctx context.Context, n int, before time.Time, limit int) (int, error) {
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	minutes, err := d.listed(ctx, queueSent(n), 0, minuteOf(before))
	if err != nil {
		return 0, cql.Translate(ctx, err)
	}
	total := 0
	for _, m := range minutes {
		trimmed, err := d.trim(ctx, n, m, before.UnixMicro(), limit-total)
		total += trimmed
		if err != nil || total >= limit {
			return total, cql.Translate(ctx, err)
		}
	}
	return total, nil
}

// trim removes rows of a minute: with one tombstone where it may remove all.
func (d *Driver) trim(ctx context.Context, n int, m, before int64, limit int) (int, error) {
	iter := d.query(ctx, `SELECT at, tenant, kind, id, ref FROM outbox_sent WHERE shard = ? AND minute = ? AND at < ? LIMIT ?`, n, m, before, limit+1).Iter()
	var rows []sentRow
	var r sentRow
	for iter.Scan(&r.at, &r.key.Tenant, &r.key.Kind, &r.key.ID, &r.ref) {
		rows = append(rows, r)
	}
	if err := iter.Close(); err != nil {
		return 0, err
	}
	if len(rows) <= limit {
		if len(rows) > 0 {
			if err := d.query(ctx, `DELETE FROM outbox_sent WHERE shard = ? AND minute = ? AND at < ?`, n, m, before).Exec(); err != nil {
				return 0, err
			}
		}
		if minuteOf(time.UnixMicro(before)) > m {
			return len(rows), d.close(ctx, queueSent(n), m)
		}
		return len(rows), nil
	}
	rows = rows[:limit]
	return limit, cql.Each(limit, func(i int) error {
		r := rows[i]
		return d.query(ctx, `DELETE FROM outbox_sent WHERE shard = ? AND minute = ? AND at = ? AND tenant = ? AND kind = ? AND id = ? AND ref = ?`,
			n, m, r.at, r.key.Tenant, r.key.Kind, r.key.ID, r.ref).Exec()
	})
}
