package scyllarepo

import (
	"context"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// maxValue is the most bytes of a column's value: a clustering key of CQL has 64 KiB.
const maxValue = 32 << 10

// Fields of entries that are no column's. A column's name has no tilde.
const (
	byID      = ""
	byExpiry  = "~expires"
	byHour    = "~hours"   // the hours in which something expires
	byTenants = "~tenants" // the tenants that have some of a kind
)

// entry is a hint: under value, in the order of field, there may be the
// aggregate. It is comparable.
type entry struct {
	tenant, kind, field string
	live                bool
	bucket              int
	value, id           string
}

const (
	putEntry    = `INSERT INTO query_entries (tenant, kind, field, live, bucket, value, id) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`
	removeEntry = `DELETE FROM query_entries USING TIMESTAMP ? WHERE tenant = ? AND kind = ? AND field = ? AND live = ? AND bucket = ? AND value = ? AND id = ?`
)

func (e entry) columns() []any {
	return []any{e.tenant, e.kind, e.field, e.live, e.bucket, []byte(e.value), e.id}
}

// entries returns where a record has to be found.
func (s *state) entries() []entry {
	if !s.found {
		return nil
	}
	at := func(field, value string) entry {
		return entry{s.Tenant, s.Kind, field, s.DeletedAt.IsZero(), bucketOf(s.ID), value, s.ID}
	}
	out := make([]entry, 0, len(s.fields)+2)
	out = append(out, at(byID, ""))
	for field, value := range s.fields {
		out = append(out, at(field, string(value)))
	}
	if !s.ExpiresAt.IsZero() {
		out = append(out, expiryOf(s.Key, s.ExpiresAt))
	}
	return out
}

// expiryOf is the entry of an aggregate that expires, among those of all tenants.
func expiryOf(key repo.Key, at time.Time) entry {
	return entry{"", key.Kind, byExpiry, true, hourOf(at), string(encodeTime(at)), key.Tenant + "\x00" + key.ID}
}

// has says whether the record is where the entry says: whether it is one of
// entries.
func (s *state) has(e entry) bool {
	if !s.found {
		return false
	}
	if e.field == byExpiry {
		return !s.ExpiresAt.IsZero() && e == expiryOf(s.Key, s.ExpiresAt)
	}
	value, there := s.fields[e.field]
	return (there || e.field == byID) && string(value) == e.value && e.id == s.ID && e.live == s.DeletedAt.IsZero()
}

// without returns the entries of a that are not in b.
func without(a, b []entry) []entry {
	in := make(map[entry]bool, len(b))
	for _, e := range b {
		in[e] = true
	}
	var out []entry
	for _, e := range a {
		if !in[e] {
			out = append(out, e)
		}
	}
	return out
}

// nextStamp returns the stamp of what follows s. Only where nothing is left of
// an earlier record it is made of the time, and of the hour, so that two that
// try at the same time have the same.
func (s *state) nextStamp(now time.Time) int64 {
	if s.found {
		return s.stamp + 2
	}
	return max(now.Truncate(time.Hour).UnixMicro(), s.stamp+2)
}

// removal returns the timestamp with which entries are removed that the state
// contradicts: it beats all that were put for its version or an older one, and
// none that is put for a later one.
func (s *state) removal(now time.Time) int64 {
	if s.stamp == 0 { // nothing ever, or erased long ago, or about to be added
		return now.Truncate(time.Hour).Add(-time.Hour).UnixMicro() - 1
	}
	return s.stamp + 1
}

// put writes entries for a version.
func (d *Driver) put(ctx context.Context, all []entry, stamp int64) error {
	for _, e := range all {
		if len(e.value) > maxValue {
			return fault.New(fault.TooLarge, "the value of %s has %d bytes, at most %d can be found by queries", e.field, len(e.value), maxValue).WithCode("value_too_large")
		}
	}
	return cql.Each(len(all), func(i int) error {
		if err := d.announce(ctx, all[i]); err != nil {
			return err
		}
		return d.query(ctx, putEntry, append(all[i].columns(), stamp)...).Exec()
	})
}

// announce lists the tenant or the hour of an entry, once in a while.
func (d *Driver) announce(ctx context.Context, e entry) error {
	var first entry
	switch e.field {
	case byID:
		first = entry{"", e.kind, byTenants, true, 0, "", e.tenant}
	case byExpiry:
		first = entry{"", e.kind, byHour, true, 0, string(encodeHour(e.bucket)), ""}
	default:
		return nil
	}
	list := func() error { return d.query(ctx, putEntry, append(first.columns(), d.now().UnixMicro())...).Exec() }
	if e.field == byExpiry && e.bucket < hourOf(d.now()) {
		return list() // Purge may have taken it off
	}
	return d.once(first, list)
}

// stale is an entry to be removed.
type stale struct {
	entry
	stamp int64
}

// discard has entries removed, in the background. Where there are too many at
// once some stay: who meets them discards them again.
func (d *Driver) discard(all []entry, stamp int64) {
	for _, e := range all {
		select {
		case d.stale <- stale{e, stamp}:
		default:
			return
		}
	}
}

// sweep removes what was discarded until ctx ends.
func (d *Driver) sweep(ctx context.Context) {
	for {
		select {
		case s := <-d.stale:
			_ = d.remove(ctx, s) // it stays a hint that leads nowhere
		case <-ctx.Done():
			return
		}
	}
}

func (d *Driver) remove(ctx context.Context, s stale) error {
	return d.query(ctx, removeEntry, append([]any{s.stamp}, s.columns()...)...).RetryPolicy(&gocql.SimpleRetryPolicy{NumRetries: 1}).Exec()
}
