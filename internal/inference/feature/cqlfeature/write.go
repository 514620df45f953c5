package cqlfeature

import (
	"context"
	"math"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
)

// Write implements feature.Store: a statement for each row, some at once.
func (s *Store) Write(ctx context.Context, tenant, view string, rows []feature.Row, written time.Time, keep time.Duration) error {
	for i := range rows {
		if err := feature.CheckRow(&rows[i]); err != nil {
			return err
		}
	}
	if err := s.session.Usable(ctx); err != nil {
		return err
	}
	last := lastOfEach(rows)
	err := cql.Each(len(last), func(i int) error {
		r := last[i]
		k := kept{place: place{tenant, view, r.Entity, r.EventTime.UnixMicro(), written.UnixMicro()}, until: r.EventTime.Add(keep).UnixMicro()}
		stamped := written.IsZero()
		if stamped {
			k.written = time.Now().Add(s.lead).UnixMicro()
		}
		err := s.insert(ctx, k, r.Values, time.Now().UnixMicro())
		if stamped && late(err, k.written, time.Now()) {
			s.late.Inc()
		}
		if err != nil {
			return err
		}
		return s.fit(ctx, k)
	})
	if err != nil || !written.IsZero() || len(last) == 0 {
		return cql.Translate(ctx, err)
	}
	return settled(ctx, time.Now().Add(s.lead)) // no stamp is later
}

// late says whether a row may have come once it counted as known already: also one that
// failed may be there.
func late(err error, written int64, now time.Time) bool {
	return now.UnixMicro() >= written && !cql.NotDone(err)
}

// lastOfEach returns the rows without those that another one behind them replaces.
func lastOfEach(rows []feature.Row) []*feature.Row {
	type moment struct {
		entity string
		event  int64
	}
	at := map[moment]int{}
	var out []*feature.Row
	for i := range rows {
		m := moment{rows[i].Entity, rows[i].EventTime.UnixMicro()}
		if j, there := at[m]; there {
			out[j] = &rows[i]
			continue
		}
		at[m] = len(out)
		out = append(out, &rows[i])
	}
	return out
}

// place is where a row is.
type place struct {
	tenant, view, entity string
	event, written       int64
}

// kept is a row without its values.
type kept struct {
	place
	until int64
}

// grace is for how long a row that is over is there: older ones that come late are over, too.
const grace = 24 * time.Hour

// insert keeps a row, as a change of a time in microseconds.
func (s *Store) insert(ctx context.Context, k kept, doc []byte, change int64) error {
	return s.session.Repeat(ctx, `INSERT INTO feature_rows (tenant, feature_view, entity, event, written, until, doc) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?`,
		k.tenant, k.view, k.entity, k.event, k.written, k.until, doc, change, timeToLive(k.until, time.Now())).Exec()
}

// expirable is the latest second that Cassandra before 5.0 takes for the end of a row.
const expirable = 1<<31 - 2

// timeToLive returns the seconds that a row is there yet; 0, no end, is of one whose end the
// cluster may not be able to tell.
func timeToLive(until int64, now time.Time) int {
	end := max(until/1e6, now.Unix()) + int64(grace/time.Second)
	if end >= expirable {
		return 0
	}
	return int(end - now.Unix())
}

// fit has no row kept for longer than a newer one of its entity: it would be read again once
// that is over. It looks at what is there once the row is, so that of two who write at the
// same time one sees the other's.
func (s *Store) fit(ctx context.Context, k kept) error {
	until, err := s.newer(ctx, k.place)
	if err != nil {
		return err
	}
	if until < k.until {
		if err := s.shorten(ctx, k.place, until); err != nil {
			return err
		}
		k.until = until
	}
	older, err := s.longer(ctx, k)
	if err != nil {
		return err
	}
	for _, p := range older {
		if err := s.shorten(ctx, p, k.until); err != nil {
			return err
		}
	}
	return nil
}

// newer returns until when the next newer row is kept, which is for no longer than those
// behind it; without one for ever.
func (s *Store) newer(ctx context.Context, p place) (int64, error) {
	until := int64(math.MaxInt64)
	_, err := cql.First(s.session.Repeat(ctx, `SELECT until FROM feature_rows WHERE tenant = ? AND feature_view = ? AND entity = ? AND event > ? ORDER BY event ASC LIMIT 1`,
		p.tenant, p.view, p.entity, p.event), &until)
	return until, err
}

// longer returns the rows of the entity that are not newer, but kept for longer: they are
// the next ones, since those before them are kept for no longer than they.
func (s *Store) longer(ctx context.Context, k kept) ([]place, error) {
	iter := s.session.Repeat(ctx, `SELECT event, written, until FROM feature_rows WHERE tenant = ? AND feature_view = ? AND entity = ? AND event <= ?`,
		k.tenant, k.view, k.entity, k.event).PageSize(16).Prefetch(0).Iter()
	var out []place
	p, until := k.place, int64(0)
	for iter.Scan(&p.event, &p.written, &until) {
		if p == k.place {
			continue
		}
		if until <= k.until {
			break
		}
		out = append(out, p)
	}
	return out, iter.Close()
}

// rounds is how often a row is shortened that others shorten, too.
const rounds = 10

// shorten has a row end earlier. It is a change of the moment after it was written: who
// forgets the entity meanwhile has forgotten it. Two who do so make changes of the same moment,
// of which the cluster keeps the later end: who has that one finds the newer row of the
// other, and does it again.
func (s *Store) shorten(ctx context.Context, p place, until int64) error {
	for range rounds {
		var doc []byte
		var had, change int64
		there, err := cql.First(s.session.Repeat(ctx, `SELECT doc, until, writetime(doc) FROM feature_rows WHERE tenant = ? AND feature_view = ? AND entity = ? AND event = ? AND written = ?`,
			p.tenant, p.view, p.entity, p.event, p.written), &doc, &had, &change)
		if err != nil || !there || had <= until {
			return err
		}
		if err := s.insert(ctx, kept{p, until}, doc, change+1); err != nil {
			return err
		}
		next, err := s.newer(ctx, p)
		if err != nil {
			return err
		}
		until = min(until, next)
	}
	return fault.New(fault.Unavailable, "rows of one entity are written by too many at once: try again").WithCode("store_busy").WithRetryAfter(time.Second)
}
