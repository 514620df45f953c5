package memrepo

import (
	"context"
	"slices"
	"time"

	"sluice/internal/platform/repo"
)

// Shards implements repo.Outbox: there is one.
func (d *Driver) Shards() int { return 1 }

// Changed implements repo.Outbox.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Pending implements repo.Outbox.
func (d *Driver) Pending(ctx context.Context, _, limit int) ([]repo.Message, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	var out []repo.Message
	for _, o := range d.outbox {
		if o.published.IsZero() && len(out) < limit {
			out = append(out, o.Message)
		}
	}
	return out, nil
}

// Published implements repo.Outbox.
func (d *Driver) Published(ctx context.Context, _ int, messages []repo.Message, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	ids := make(map[string]bool, len(messages))
	for _, m := range messages {
		ids[m.ID] = true
	}
	for i := range d.outbox {
		if ids[d.outbox[i].ID] {
			d.outbox[i].published = at
		}
	}
	return nil
}

// Republish implements repo.Outbox.
func (d *Driver) Republish(ctx context.Context, _ int, within time.Duration, since time.Time) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	n, last := 0, time.Time{}
	for _, o := range d.outbox {
		if o.published.After(last) {
			last = o.published
		}
	}
	for i, o := range d.outbox {
		if !o.published.IsZero() && last.Sub(o.published) <= within && !o.published.Before(since) {
			d.outbox[i].published = time.Time{}
			n++
		}
	}
	return n, nil
}

// Trim implements repo.Outbox.
func (d *Driver) Trim(ctx context.Context, _ int, before time.Time, limit int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	n := 0
	d.outbox = slices.DeleteFunc(d.outbox, func(o outgoing) bool {
		gone := !o.published.IsZero() && o.published.Before(before) && n < limit
		if gone {
			n++
		}
		return gone
	})
	return n, nil
}

// Backlog implements repo.Outbox.
func (d *Driver) Backlog(ctx context.Context, _ int) (int, time.Time, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return 0, time.Time{}, err
	}
	n, oldest := 0, time.Time{}
	for _, o := range d.outbox {
		if o.published.IsZero() {
			if n == 0 {
				oldest = o.Time
			}
			n++
		}
	}
	return n, oldest, nil
}
