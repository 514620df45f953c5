package sqliterepo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/internal/platform/repo"
)

// isPending is the condition that a message was not published, never is its time.
const isPending = "published_at = 9223372036854775807"

var (
	insertOutbox    = fmt.Sprintf("INSERT INTO outbox (published_at, %s) VALUES (%d, %s)", strings.Join(messageColumns, ", "), int64(never), places(len(messageColumns)))
	selectPending   = selectMessage + " FROM outbox WHERE " + isPending + " ORDER BY position LIMIT ?"
	selectPositions = "SELECT message, position FROM outbox WHERE " + isPending + " ORDER BY position"
	selectBacklog   = "SELECT count(*), (SELECT time FROM outbox WHERE " + isPending + " ORDER BY position LIMIT 1) FROM outbox WHERE " + isPending
	markPublished   = "UPDATE outbox SET published_at = ? WHERE position = ?"
	markFirst       = "UPDATE outbox SET published_at = ? WHERE " + isPending + " AND position <= ?"
	republish       = fmt.Sprintf("UPDATE outbox SET published_at = %[1]d WHERE published_at < %[1]d AND published_at >="+
		" MAX(?, (SELECT MAX(published_at) FROM outbox WHERE published_at < %[1]d) - ?) RETURNING 1", int64(never))
	trim = "DELETE FROM outbox WHERE position IN (SELECT position FROM outbox WHERE published_at < ? LIMIT ?) RETURNING 1"
)

// rideMost is how many messages are marked as published at once: the relay is behind
// where there are as many, and goes on with the next when it is done.
const rideMost = 200

// Shards implements repo.Outbox: there is one.
func (d *Driver) Shards() int { return 1 }

// Changed implements repo.Outbox.
func (d *Driver) Changed() <-chan struct{} { return d.writer.changed }

// Pending implements repo.Outbox.
func (d *Driver) Pending(ctx context.Context, _, limit int) ([]repo.Message, error) {
	return d.messages(ctx, newStatement(selectPending, int64(limit)))
}

// Published implements repo.Outbox. A relay publishes what is first in the
// outbox, so the messages are found there without an index of their ids; and nearly
// always they are the first, all of them, so that one statement marks them.
func (d *Driver) Published(ctx context.Context, _ int, messages []repo.Message, at time.Time) error {
	if len(messages) == 0 {
		return ctx.Err()
	}
	mark := d.writer.ride
	if len(messages) >= rideMost {
		mark = d.writer.run
	}
	return mark(ctx, func(c *conn) error {
		missing := make(map[string]bool, len(messages))
		for _, m := range messages {
			missing[m.ID] = true
		}
		positions, others := make([]value, 0, len(messages)), false
		err := c.Query(context.Background(), newStatement(selectPositions), func(row []value) error {
			if id, _ := row[0].(string); missing[id] {
				positions = append(positions, row[1])
				delete(missing, id)
			} else {
				others = true
			}
			if len(missing) == 0 {
				return io.EOF
			}
			return nil
		})
		if err == nil && !others && len(positions) > 0 {
			return c.Exec(newStatement(markFirst, at.UnixMicro(), positions[len(positions)-1]))
		}
		for _, p := range positions {
			if err == nil {
				err = c.Exec(newStatement(markPublished, at.UnixMicro(), p))
			}
		}
		return err
	})
}

// Republish implements repo.Outbox.
func (d *Driver) Republish(ctx context.Context, _ int, within time.Duration, since time.Time) (int, error) {
	return d.count(ctx, newStatement(republish, since.UnixMicro(), within.Microseconds()))
}

// Trim implements repo.Outbox.
func (d *Driver) Trim(ctx context.Context, _ int, before time.Time, limit int) (int, error) {
	return d.count(ctx, newStatement(trim, before.UnixMicro(), int64(limit)))
}

// Backlog implements repo.Outbox.
func (d *Driver) Backlog(ctx context.Context, _ int) (n int, oldest time.Time, err error) {
	err = d.readers.Query(ctx, newStatement(selectBacklog), func(row []value) error {
		r := reader{row: row}
		if n = int(r.integer()); n > 0 {
			oldest = r.time()
		}
		return nil
	})
	return n, oldest, err
}
