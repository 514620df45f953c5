package scyllarepo

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
)

const (
	sweepEvery = 15 * time.Second // how often all listed minutes are looked at
	justNow    = 30 * time.Second // minutes that are looked at always
	countUpTo  = 10000            // messages that Backlog counts
)

// hint says that an aggregate has messages, or is about to.
type hint struct {
	at  gocql.UUID
	key repo.Key
}

// outRow is a message in the outbox and where it is.
type outRow struct {
	repo.Message
	key   repo.Key // of the partition, maybe not of the message
	ref   string
	due   gocql.UUID // its changeset's hint
	size  int        // messages of the changeset
	wrote int64      // timestamp of the row
}

// removal returns the timestamp with which a row is removed, and from which on it
// may come back. The transaction that wrote the row may still be finished a
// second time, by another coordinator and with a timestamp of its own; an hour is
// much longer than that can take. (After it a message is published twice.)
func (r *outRow) removal() int64 { return r.wrote + time.Hour.Microseconds() }

// shard is what is remembered of a shard to make Pending cheap. All of it may be
// forgotten.
type shard struct {
	mu     sync.Mutex
	swept  time.Time
	busy   map[int64]bool    // minutes with hints when they were last looked at
	placed map[string]outRow // by the ids of messages that Pending returned
}

// maxPlaced is how many messages may wait for Published; beyond, it looks for
// them under their own key.
const maxPlaced = 1 << 16

// Shards implements repo.Outbox.
func (*Driver) Shards() int { return shards }

// Changed implements repo.Outbox.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

func (d *Driver) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// owe leaves a hint at messages, before they are there.
func (d *Driver) owe(ctx context.Context, key repo.Key, at gocql.UUID) error {
	n, minute := shardOf(key), minuteOf(at.Time())
	if err := d.open(ctx, queueDue(n), minute); err != nil {
		return err
	}
	return d.query(ctx, `INSERT INTO outbox_due (shard, minute, at, tenant, kind, id) VALUES (?, ?, ?, ?, ?, ?)`,
		n, minute, at, key.Tenant, key.Kind, key.ID).Exec()
}

// paid removes a hint.
func (d *Driver) paid(ctx context.Context, n int, at gocql.UUID) error {
	return d.query(ctx, `DELETE FROM outbox_due WHERE shard = ? AND minute = ? AND at = ?`, n, minuteOf(at.Time()), at).Exec()
}

// Pending implements repo.Outbox.
func (d *Driver) Pending(ctx context.Context, n, limit int) ([]repo.Message, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	rows, err := d.pending(ctx, n, limit)
	if err != nil {
		return nil, cql.Translate(ctx, err)
	}
	out := make([]repo.Message, len(rows))
	s := &d.shards[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.placed)+len(rows) > maxPlaced {
		clear(s.placed)
	}
	for i, r := range rows {
		out[i] = r.Message
		r.Message = repo.Message{} // where it is will do
		s.placed[out[i].ID] = r
	}
	return out, nil
}

// pending follows the hints of a shard, the oldest first.
func (d *Driver) pending(ctx context.Context, n, limit int) ([]outRow, error) {
	minutes, err := d.minutes(ctx, n)
	if err != nil {
		return nil, err
	}
	var out []outRow
	followed := map[repo.Key]bool{}
	for _, m := range minutes {
		hints, err := d.hints(ctx, n, m)
		if err != nil {
			return nil, err
		}
		d.note(n, m, len(hints) > 0)
		if len(hints) == 0 {
			if err := d.close(ctx, queueDue(n), m); err != nil {
				return nil, err
			}
		}
		for part := range slices.Chunk(hints, cql.Together) {
			if len(out) >= limit {
				return out, nil
			}
			rows, err := d.followHints(ctx, n, part, followed, limit-len(out))
			if err != nil {
				return nil, err
			}
			out = append(out, rows[:min(len(rows), limit-len(out))]...)
		}
	}
	return out, nil
}

// minutes returns those to look at: all that are listed once in a while,
// otherwise those that had hints, and the latest.
func (d *Driver) minutes(ctx context.Context, n int) ([]int64, error) {
	now := d.now()
	s := &d.shards[n]
	s.mu.Lock()
	all := now.Sub(s.swept) >= sweepEvery
	s.mu.Unlock()
	var listed []int64
	if all {
		var err error
		if listed, err = d.listed(ctx, queueDue(n), 0, minuteOf(now.Add(closedAfter))); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		s.swept = now
	}
	for _, m := range listed {
		s.busy[m] = true
	}
	var out []int64
	for m := range s.busy {
		out = append(out, m)
	}
	for m := minuteOf(now.Add(-justNow)); m <= minuteOf(now.Add(justNow)); m++ {
		out = append(out, m)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (d *Driver) note(n int, m int64, busy bool) {
	s := &d.shards[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	if busy {
		s.busy[m] = true
	} else {
		delete(s.busy, m)
	}
}

func (d *Driver) hints(ctx context.Context, n int, m int64) ([]hint, error) {
	iter := d.query(ctx, `SELECT at, tenant, kind, id FROM outbox_due WHERE shard = ? AND minute = ?`, n, m).Iter()
	var out []hint
	var h hint
	for iter.Scan(&h.at, &h.key.Tenant, &h.key.Kind, &h.key.ID) {
		out = append(out, h)
	}
	return out, iter.Close()
}

// followHints returns the messages that hints lead to, aggregate by aggregate,
// and removes hints that lead nowhere.
func (d *Driver) followHints(ctx context.Context, n int, hints []hint, followed map[repo.Key]bool, limit int) ([]outRow, error) {
	rows := make([][]outRow, len(hints))
	fresh := make([]bool, len(hints))
	for i, h := range hints {
		fresh[i] = !followed[h.key]
		followed[h.key] = true
	}
	old := d.now().Add(-2*d.cfg.CommitTimeout - time.Minute)
	err := cql.Each(len(hints), func(i int) (err error) {
		h := hints[i]
		if fresh[i] {
			if rows[i], err = d.out(ctx, h.key, limit, false); err != nil || len(rows[i]) > 0 {
				return err
			}
		}
		if h.at.Time().After(old) {
			return nil
		}
		// No commit that left this hint is under way: after a SERIAL read, none
		// that was interrupted can happen any more.
		left, err := d.out(ctx, h.key, 1, true)
		if err != nil || len(left) > 0 {
			return err
		}
		return d.paid(ctx, n, h.at)
	})
	return slices.Concat(rows...), err
}

// out returns messages of a partition that were not published, in order.
func (d *Driver) out(ctx context.Context, key repo.Key, limit int, serial bool) ([]outRow, error) {
	q := d.query(ctx, `SELECT ref, message, data, keep, due, size, WRITETIME(message) FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'out' LIMIT ?`,
		key.Tenant, key.Kind, key.ID, limit)
	if serial {
		q = q.Consistency(d.session.Serial)
	}
	iter := q.Iter()
	var out []outRow
	for {
		r := outRow{key: key}
		var head, data []byte
		var keep bool
		if !iter.Scan(&r.ref, &head, &data, &keep, &r.due, &r.size, &r.wrote) {
			return out, iter.Close()
		}
		m, err := decodeMessage(head, data, keep)
		if err != nil {
			_ = iter.Close()
			return nil, err
		}
		r.Message = m
		out = append(out, r)
	}
}

// Backlog implements repo.Outbox. It counts 10,000 messages at most.
func (d *Driver) Backlog(ctx context.Context, n int) (int, time.Time, error) {
	if err := d.usable(ctx); err != nil {
		return 0, time.Time{}, err
	}
	rows, err := d.pending(ctx, n, countUpTo)
	if err != nil || len(rows) == 0 {
		return 0, time.Time{}, cql.Translate(ctx, err)
	}
	oldest := slices.MinFunc(rows, func(a, b outRow) int { return cmp.Compare(a.Time.UnixMicro(), b.Time.UnixMicro()) })
	return len(rows), oldest.Time, nil
}
