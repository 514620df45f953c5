// Package memfeature keeps features in memory, for tests and as the reference of the
// contract: what is there ends with the process.
package memfeature

import (
	"context"
	"slices"
	"sync"
	"time"

	"sluice/internal/inference/feature"
)

// Store is a feature.Store. The zero value is empty.
type Store struct {
	clock feature.Clock
	mu    sync.RWMutex
	rows  map[place][]kept
}

type place struct {
	tenant string
	feature.Key
}

type kept struct {
	feature.Row
	until time.Time
}

var _ feature.Store = (*Store)(nil)

// Write implements feature.Store.
func (s *Store) Write(ctx context.Context, tenant, view string, rows []feature.Row, written time.Time, keep time.Duration) error {
	for i := range rows {
		if err := feature.CheckRow(&rows[i]); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		s.rows = map[place][]kept{}
	}
	if written.IsZero() {
		var end func()
		written, end = s.clock.Begin(time.Time{})
		defer end()
	}
	for _, r := range rows {
		at := place{tenant, feature.Key{View: view, Entity: r.Entity}}
		r.EventTime, r.Written = r.EventTime.UTC().Truncate(time.Microsecond), written.UTC().Truncate(time.Microsecond)
		r.Values = slices.Clone(r.Values)
		s.rows[at] = slices.DeleteFunc(s.rows[at], func(k kept) bool { return k.EventTime.Equal(r.EventTime) && k.Written.Equal(r.Written) })
		until := r.EventTime.Add(keep)
		for _, k := range s.rows[at] {
			if k.EventTime.After(r.EventTime) && k.until.Before(until) {
				until = k.until
			}
		}
		for i := range s.rows[at] { // none is kept for longer than one that is newer
			if k := &s.rows[at][i]; !k.EventTime.After(r.EventTime) && k.until.After(until) {
				k.until = until
			}
		}
		s.rows[at] = append(s.rows[at], kept{r, until})
	}
	return nil
}

// Read implements feature.Store.
func (s *Store) Read(ctx context.Context, tenant string, keys []feature.Key, asOf time.Time) ([]feature.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.clock.Reach(ctx, asOf); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := make([]feature.Row, len(keys))
	for i, key := range keys {
		for _, r := range s.rows[place{tenant, key}] {
			if r.EventTime.After(asOf) || r.Written.After(asOf) {
				continue
			}
			if best := &found[i]; best.Written.IsZero() || r.EventTime.After(best.EventTime) || r.EventTime.Equal(best.EventTime) && r.Written.After(best.Written) {
				*best = r.Row
			}
		}
	}
	return found, nil
}

// Forget implements feature.Store.
func (s *Store) Forget(ctx context.Context, tenant string, key feature.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, place{tenant, key})
	return ctx.Err()
}

// Expire implements feature.Store.
func (s *Store) Expire(_ context.Context, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, rows := range s.rows {
		if s.rows[at] = slices.DeleteFunc(rows, func(k kept) bool { return !now.Before(k.until) }); len(s.rows[at]) == 0 {
			delete(s.rows, at)
		}
	}
	return nil
}

// Ping implements feature.Store.
func (*Store) Ping(context.Context) error { return nil }

// Close implements feature.Store.
func (*Store) Close() error { return nil }
