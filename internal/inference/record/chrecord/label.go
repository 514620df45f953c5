package chrecord

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/internal/inference/record"
)

// named says which label of which prediction.
type named struct {
	id   record.ID
	name string
}

// Label implements record.Store. Of two processes that label the same prediction at
// once, both may be told that theirs was the first.
func (s *Store) Label(ctx context.Context, tenant string, labels []record.Label, now time.Time) ([]record.Labelled, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	last, byRef, err := s.predictions(ctx, tenant, labels)
	if err != nil {
		return nil, err
	}
	before, err := s.labelsOf(ctx, tenant, last)
	if err != nil {
		return nil, err
	}
	out := make([]record.Labelled, len(labels))
	changed := map[named]record.Label{}
	for i, l := range labels {
		id := l.ID
		if id.IsZero() {
			refs := byRef[l.ClientRef]
			if len(refs) > 1 {
				out[i] = record.Ambiguous
				continue
			}
			for only := range refs {
				id = only
			}
		}
		if last[id] == nil {
			out[i] = record.Unknown
			continue
		}
		k := named{id, l.Name}
		was, had := before[k]
		switch {
		case had && string(was.Value) == string(l.Value) && equal(was.Score, l.Score):
			out[i] = record.Unchanged
			continue
		case had:
			out[i] = record.Replaced
		}
		before[k], changed[k] = l, l
	}
	return out, s.put(ctx, tenant, last, changed, now)
}

func equal(a, b *float64) bool { return a == b || a != nil && b != nil && *a == *b }

// predictions finds what labels are about: the last attempts, and the ids that
// clients' names stand for.
func (s *Store) predictions(ctx context.Context, tenant string, labels []record.Label) (last map[record.ID]*record.Entry, byRef map[string]map[record.ID]bool, err error) {
	last, byRef = map[record.ID]*record.Entry{}, map[string]map[record.ID]bool{}
	var ids, refs []string
	for i := range labels {
		switch l := &labels[i]; {
		case !l.ID.IsZero():
			ids = append(ids, idLiteral(l.ID))
		case l.ClientRef != "":
			refs = append(refs, literal(l.ClientRef))
		}
	}
	for column, values := range map[string][]string{"id": ids, "client_ref": refs} {
		if len(values) == 0 {
			continue
		}
		err := s.rows(ctx, "SELECT "+bySeries+", at, id, attempt, client_ref FROM entries WHERE tenant = "+literal(tenant)+" AND "+column+" IN ("+strings.Join(values, ", ")+")", func(r driver.Rows) error {
			var e record.Entry
			var id string
			var attempt uint32
			if err := r.Scan(&e.Model, &e.Version, &e.Experiment, &e.Arm, &e.ByRule, &e.Shadow, &e.Bulk, &e.At, &id, &attempt, &e.ClientRef); err != nil {
				return err
			}
			e.ID, e.Attempt = idOf(id), int(attempt)
			if l := last[e.ID]; l == nil || l.Attempt < e.Attempt {
				last[e.ID] = &e
			}
			if column == "client_ref" {
				if byRef[e.ClientRef] == nil {
					byRef[e.ClientRef] = map[record.ID]bool{}
				}
				byRef[e.ClientRef][e.ID] = true
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return last, byRef, nil
}

// labelsOf returns the labels that predictions have.
func (s *Store) labelsOf(ctx context.Context, tenant string, last map[record.ID]*record.Entry) (map[named]record.Label, error) {
	found := map[named]record.Label{}
	for ids := range slices.Chunk(slices.Collect(maps.Keys(last)), chunk) {
		list := make([]string, len(ids))
		for i, id := range ids {
			list[i] = idLiteral(id)
		}
		err := s.rows(ctx, "SELECT id, name, value, score FROM labels FINAL WHERE tenant = "+literal(tenant)+" AND id IN ("+strings.Join(list, ", ")+")", func(r driver.Rows) error {
			var id, value string
			var l record.Label
			if err := r.Scan(&id, &l.Name, &value, &l.Score); err != nil {
				return err
			}
			if value != "" {
				l.Value = json.RawMessage(value)
			}
			found[named{idOf(id), l.Name}] = l
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// put writes what has changed.
func (s *Store) put(ctx context.Context, tenant string, last map[record.ID]*record.Entry, changed map[named]record.Label, now time.Time) error {
	if len(changed) == 0 {
		return nil
	}
	b, err := s.db.PrepareBatch(ctx, "INSERT INTO labels (tenant, "+bySeries+", at, id, name, value, score, observed, labelled)")
	if err != nil {
		return translate(err)
	}
	for k, l := range changed {
		e := last[k.id]
		if err := b.Append(tenant, e.Model, e.Version, e.Experiment, e.Arm, e.ByRule, e.Shadow, e.Bulk, e.At, string(k.id[:]), k.name, string(l.Value), l.Score, l.Observed, now.UTC()); err != nil {
			_ = b.Abort()
			return translate(err)
		}
	}
	return translate(b.Send())
}
