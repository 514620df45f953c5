package webhook

import (
	"context"
	"errors"
	"time"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/repo"
)

// Health is what is wrong with an endpoint; there is none of one that is well. It
// is apart from the endpoint, whose version is its owner's affair.
type Health struct {
	aggregate.Root[EndpointID]
	FailingSince time.Time `json:"failing_since,omitzero"` // zero: the last attempt succeeded
	PausedUntil  time.Time `json:"paused_until,omitzero"`
}

// Healths keeps them, under the ids of the endpoints.
var Healths = repo.Kind[EndpointID, Health]{
	Name: "webhook_health", Root: func(h *Health) *aggregate.Root[EndpointID] { return &h.Root },
	Expires: func(h *Health) time.Time {
		last := h.FailingSince
		if h.PausedUntil.After(last) {
			last = h.PausedUntil
		}
		return last.Add(forgotten)
	},
}

// forgotten is after how long what was wrong says nothing any more: of an endpoint
// that was disabled or deleted.
const forgotten = 60 * 24 * time.Hour

// DefaultPause is for how long an endpoint is left alone that throttles and does
// not say for how long.
const DefaultPause = 15 * time.Second

// Observe takes in what became of an attempt, and returns whether that changed
// anything.
func (h *Health) Observe(r Result, now time.Time) (changed bool) {
	before := *h
	switch {
	case r.Class == None:
		h.FailingSince, h.PausedUntil = time.Time{}, time.Time{}
	case h.FailingSince.IsZero():
		h.FailingSince = now
	}
	if r.Class == Throttled {
		wait := DefaultPause
		if r.RetryAfter > 0 {
			wait = min(r.RetryAfter, maxRetryAfter)
		}
		if until := now.Add(wait); until.After(h.PausedUntil) {
			h.PausedUntil = until
		}
	}
	return !h.FailingSince.Equal(before.FailingSince) || !h.PausedUntil.Equal(before.PausedUntil)
}

// HopelessSince says whether nothing has reached the endpoint for a time. A change
// of the endpoint begins the time anew.
func (h *Health) HopelessSince(e *Endpoint, now time.Time, limit time.Duration) bool {
	since := h.FailingSince
	if since.IsZero() {
		return false
	}
	if e.UpdatedAt.After(since) {
		since = e.UpdatedAt
	}
	return now.Sub(since) >= limit
}

// HealthOf returns what is known of an endpoint.
func HealthOf(ctx context.Context, from repo.Reading, id EndpointID) (Health, error) {
	h, err := Healths.Get(ctx, from, id)
	if errors.Is(err, repo.ErrNotFound) {
		h.ID = id
		return h, nil
	}
	return h, err
}

// SaveHealth takes in what became of an attempt, where that changes anything.
func SaveHealth(ctx context.Context, tx *repo.Tx, id EndpointID, r Result) error {
	if r.Class == None {
		if err := Healths.Erase(ctx, tx, id); !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		return nil
	}
	_, err := Healths.Update(ctx, tx, id, func(h *Health) error { h.Observe(r, tx.Now()); return nil })
	if !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	h := &Health{}
	h.ID = id
	if !h.Observe(r, tx.Now()) {
		return nil
	}
	return Healths.Add(ctx, tx, h)
}
