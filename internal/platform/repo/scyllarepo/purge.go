package scyllarepo

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Purge implements repo.Driver. Marks end by themselves: of those it only notes
// that they are forgotten, and returns 0.
func (d *Driver) Purge(ctx context.Context, kind string, now time.Time, limit int) (int, error) {
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	if kind == "" {
		d.forgotten.Store(max(d.forgotten.Load(), now.UnixMicro()))
		return 0, nil
	}
	hours, err := d.stretchAll(ctx, entry{kind: kind, field: byHour, live: true}, span{to: beyond(string(encodeHour(hourOf(now)))), closed: true}, 0)
	if err != nil {
		return 0, cql.Translate(ctx, err)
	}
	total := 0
	for _, h := range hours {
		v, ok := decode(spec.TypeInt, []byte(h.value))
		if !ok {
			continue
		}
		n, err := d.purgeHour(ctx, kind, int(v.Int), now, limit-total)
		if total += n; err != nil || total >= limit {
			return total, cql.Translate(ctx, err)
		}
		// A day later nothing is added to an hour any more.
		if int(v.Int) < hourOf(now)-24 && int(v.Int) < hourOf(d.now())-24 {
			if err := d.remove(ctx, stale{h, d.now().UnixMicro()}); err != nil {
				return total, cql.Translate(ctx, err)
			}
		}
	}
	return total, nil
}

// purgeHour removes what has expired in an hour.
func (d *Driver) purgeHour(ctx context.Context, kind string, hour int, now time.Time, limit int) (int, error) {
	total := 0
	partition := entry{kind: kind, field: byExpiry, live: true, bucket: hour}
	at := span{to: beyond(string(encodeTime(now))), closed: true}
	for {
		entries, err := d.stretchAll(ctx, partition, at, limit-total)
		if err != nil || len(entries) == 0 {
			return total, err
		}
		for _, e := range entries {
			purged, err := d.purgeOne(ctx, e, now)
			if err != nil {
				return total, err
			}
			if purged {
				total++
			}
			at.from = place{e.value, e.id}.after()
		}
		if total >= limit {
			return total, nil
		}
	}
}

// purgeOne erases the record of an entry, unless it lives longer by now.
func (d *Driver) purgeOne(ctx context.Context, e entry, now time.Time) (bool, error) {
	tenant, id, _ := strings.Cut(e.id, "\x00")
	s, err := d.read(ctx, repo.Key{Tenant: tenant, Kind: e.kind, ID: id}, false)
	if err != nil {
		return false, err
	}
	if !s.has(e) {
		d.discard([]entry{e}, s.removal(d.now()))
		return false, nil
	}
	if !s.Expired(now) {
		return false, nil
	}
	err = d.Commit(ctx, &repo.Changeset{ID: uuid.NewString(), Puts: []repo.Put{{Record: s.Record, Expect: s.Version, Erase: true}}})
	if errors.Is(err, repo.ErrConflict) {
		return false, nil // it was changed meanwhile
	}
	return err == nil, err
}

// stretchAll returns the entries of a span, at most limit where that is not 0.
func (d *Driver) stretchAll(ctx context.Context, e entry, s span, limit int) ([]entry, error) {
	st := stream{iter: d.stretch(ctx, e, s, false).Iter(), head: e}
	var out []entry
	for st.next(); st.more && (limit == 0 || len(out) < limit); st.next() {
		out = append(out, st.head)
	}
	return out, st.iter.Close()
}
