package chrecord

import (
	"context"
	"encoding/json"
	"errors"
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
	changed := map[named]*placed{}
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
		if l.Unfit(last[id].Experiment) {
			out[i] = record.Unfit
			continue
		}
		k := named{id, l.Name}
		was, had := before[k]
		if !had {
			was = new(placed)
		}
		if out[i] = was.became(&l); out[i] == record.Unchanged && was.at(last[id]) {
			continue
		}
		l.Observed = l.ObservedBy(now)
		before[k] = &placed{Label: l, entry: last[id], others: was.left(last[id])}
		changed[k] = before[k]
	}
	return out, s.put(ctx, tenant, changed, now)
}

// placed is a label with the attempt that has it; without one it is none.
type placed struct {
	record.Label
	entry  *record.Entry // its series, time and id
	others []*placed     // of other attempts, whose scores would count beside its own
}

func (p *placed) became(by *record.Label) record.Labelled {
	if p.entry == nil {
		return by.Became(nil)
	}
	return by.Became(&p.Label)
}

func (p *placed) at(e *record.Entry) bool { return p.entry != nil && p.entry.At.Equal(e.At) }

// left returns the labels whose scores count no more once the last attempt has one.
func (p *placed) left(last *record.Entry) []*placed {
	if p.entry == nil || p.at(last) {
		return p.others
	}
	return append(slices.Clone(p.others), p)
}

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

// labelsOf returns the labels that predictions have: of each name that of the last
// attempt, else the latest.
func (s *Store) labelsOf(ctx context.Context, tenant string, last map[record.ID]*record.Entry) (map[named]*placed, error) {
	found := map[named]*placed{}
	for ids := range slices.Chunk(slices.Collect(maps.Keys(last)), chunk) {
		list := make([]string, len(ids))
		for i, id := range ids {
			list[i] = idLiteral(id)
		}
		err := s.rows(ctx, "SELECT "+bySeries+", at, id, name, value, score, observed FROM labels FINAL WHERE tenant = "+literal(tenant)+" AND id IN ("+strings.Join(list, ", ")+") ORDER BY labelled, at", func(r driver.Rows) error {
			var id, value string
			p := placed{entry: new(record.Entry)}
			e := p.entry
			if err := r.Scan(&e.Model, &e.Version, &e.Experiment, &e.Arm, &e.ByRule, &e.Shadow, &e.Bulk, &e.At, &id, &p.Name, &value, &p.Score, &p.Observed); err != nil {
				return err
			}
			if e.ID = idOf(id); value != "" {
				p.Value = json.RawMessage(value)
			}
			k := named{e.ID, p.Name}
			found[k] = p.beside(found[k], last[e.ID])
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// beside returns which of two labels of a name a prediction has, the later one being
// p; the other is noted as such where its score counts.
func (p *placed) beside(earlier *placed, last *record.Entry) *placed {
	if earlier == nil {
		return p
	}
	kept, other := p, earlier
	if earlier.at(last) {
		kept, other = earlier, p
	}
	kept.others = slices.Concat(kept.others, other.others)
	if other.others = nil; other.Score != nil {
		kept.others = append(kept.others, other)
	}
	return kept
}

// put writes what has changed. Labels of other attempts stay without their scores.
func (s *Store) put(ctx context.Context, tenant string, changed map[named]*placed, now time.Time) error {
	if len(changed) == 0 {
		return nil
	}
	b, err := s.db.PrepareBatch(ctx, "INSERT INTO labels (tenant, "+bySeries+", at, id, name, value, score, observed, labelled)")
	if err != nil {
		return translate(err)
	}
	add := func(p *placed, score *float64) error {
		e := p.entry
		return b.Append(tenant, e.Model, e.Version, e.Experiment, e.Arm, e.ByRule, e.Shadow, e.Bulk, e.At, string(e.ID[:]), p.Name, string(p.Value), score, p.Observed, now.UTC())
	}
	for _, p := range changed {
		err := add(p, p.Score)
		for _, o := range p.others {
			err = errors.Join(err, add(o, nil))
		}
		if err != nil {
			_ = b.Abort()
			return translate(err)
		}
	}
	return translate(b.Send())
}
