package scyllarepo

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// Queues are kept in partitions of a minute each. A minute is listed before the
// first row is written to it, and closed when nothing can be written any more.
const closedAfter = 10 * time.Minute

func queueDue(shard int) string  { return "due/" + strconv.Itoa(shard) }
func queueSent(shard int) string { return "sent/" + strconv.Itoa(shard) }

type minute struct {
	queue string
	n     int64
}

// open lists a minute.
func (d *Driver) open(ctx context.Context, queue string, n int64) error {
	return d.once(minute{queue, n}, func() error {
		return d.query(ctx, `INSERT INTO minutes (queue, minute) VALUES (?, ?)`, queue, n).Exec()
	})
}

// close takes a minute off the list, if it is over long since.
func (d *Driver) close(ctx context.Context, queue string, n int64) error {
	if n >= minuteOf(d.now().Add(-closedAfter)) {
		return nil
	}
	return d.query(ctx, `DELETE FROM minutes WHERE queue = ? AND minute = ?`, queue, n).Exec()
}

// listed returns the minutes of a queue between two, in order.
func (d *Driver) listed(ctx context.Context, queue string, from, to int64) ([]int64, error) {
	iter := d.query(ctx, `SELECT minute FROM minutes WHERE queue = ? AND minute >= ? AND minute <= ?`, queue, from, to).Iter()
	var out []int64
	var n int64
	for iter.Scan(&n) {
		out = append(out, n)
	}
	return out, iter.Close()
}

// recent remembers what was done lately and need not be done again: two sets, of
// which the older one is forgotten when the newer is full or a minute old.
type recent struct {
	mu       sync.Mutex
	old, now map[any]struct{}
	since    time.Time
}

const maxRecent = 4096

func (r *recent) has(key any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there := r.now[key]
	if !there {
		_, there = r.old[key]
	}
	return there
}

func (r *recent) add(key any, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || len(r.now) >= maxRecent || at.Sub(r.since) > time.Minute {
		r.old, r.now, r.since = r.now, map[any]struct{}{}, at
	}
	r.now[key] = struct{}{}
}

// once does what has an effect that lasts, unless it was done lately. It may be
// done twice.
func (d *Driver) once(key any, do func() error) error {
	if d.recent.has(key) {
		return nil
	}
	err := do()
	if err == nil {
		d.recent.add(key, d.now())
	}
	return err
}
