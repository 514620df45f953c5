package sqliterecord

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"time"

	"sluice/internal/inference/evidence/sequential"
	"sluice/internal/inference/record"
	"sluice/internal/platform/sqlite"
)

// labelled is a minute of a series of which labels have changed.
type labelled struct {
	series, minute int64
	name           string
}

// changes are those that labels make in the sums of minutes.
type changes struct {
	added    map[labelled]*scored
	replaced map[labelled]bool // where a sum has to be made anew
}

// scored are sums of scores, with the least and the greatest.
type scored struct {
	sequential.Moments
	lo, hi float64
}

func newScored() *scored { return &scored{lo: math.Inf(1), hi: math.Inf(-1)} }

func (s *scored) add(score float64) {
	s.Add(score)
	s.lo, s.hi = min(s.lo, score), max(s.hi, score)
}

// Label implements record.Store, in one transaction. The predictions are looked up
// before it, so that appending does not wait for that.
func (s *Store) Label(ctx context.Context, tenant string, labels []record.Label, now time.Time) (out []record.Labelled, err error) {
	out = make([]record.Labelled, len(labels))
	attempts := make([][]attempt, len(labels))
	for i := range labels {
		if attempts[i], out[i], err = s.attempts(ctx, tenant, &labels[i]); err != nil {
			return nil, err
		}
	}
	err = s.write(ctx, func() error {
		c := changes{map[labelled]*scored{}, map[labelled]bool{}}
		for i := range labels {
			if len(attempts[i]) == 0 {
				continue
			}
			if out[i], err = s.label(attempts[i], &labels[i], now, &c); err != nil {
				return err
			}
		}
		return s.rescore(&c)
	})
	return out, err
}

// attempt is where labels of one attempt at a prediction belong.
type attempt struct {
	series, at int64
	id         []byte
	experiment string
}

func (a *attempt) labelled(name string) labelled {
	return labelled{a.series, a.at / record.Resolution.Milliseconds(), name}
}

// attempts finds those at the prediction that a label is about and fits, the last one
// first. Without any it says why.
func (s *Store) attempts(ctx context.Context, tenant string, l *record.Label) (found []attempt, why record.Labelled, err error) {
	id := l.ID
	if id.IsZero() {
		if id, why, err = s.named(ctx, tenant, l.ClientRef); err != nil || id.IsZero() {
			return nil, why, err
		}
	}
	q := new(query)
	q.add("SELECT series, at, id, experiment FROM entries JOIN series ON series.no = entries.series WHERE entries.tenant = (SELECT no FROM tenants WHERE name = ?)", tenant)
	q.single(&record.Query{Filter: record.Filter{Tenant: tenant}, ID: id})
	q.add(" ORDER BY attempt DESC, at DESC LIMIT ?", int64(record.MaxLimit))
	err = s.readers.Query(ctx, q.finish(), func(row []sqlite.Value) error {
		r := reader{row}
		found = append(found, attempt{r.integer(), r.integer(), bytes.Clone(r.bytes()), r.text()})
		return nil
	})
	if err == nil && len(found) > 0 && l.Unfit(found[0].experiment) {
		return nil, record.Unfit, nil
	}
	return found, record.Unknown, err
}

// byRef finds two predictions of a client's name for them: it reads no more, however
// many have it.
const byRef = "SELECT DISTINCT id FROM entries WHERE tenant = (SELECT no FROM tenants WHERE name = ?) AND client_ref = ? LIMIT 2"

// named returns the prediction that a client's name stands for, or why there is none.
func (s *Store) named(ctx context.Context, tenant, ref string) (id record.ID, why record.Labelled, err error) {
	if ref == "" {
		return id, record.Unknown, nil
	}
	n := 0
	err = s.readers.Query(ctx, sqlite.New(byRef, tenant, ref), func(row []sqlite.Value) error {
		r := reader{row}
		copy(id[:], r.bytes())
		n++
		return nil
	})
	if n > 1 {
		return record.ID{}, record.Ambiguous, err
	}
	return id, record.Unknown, err
}

// label notes what turned out about a prediction, of which attempts has the last one
// first. The label counts there: those of its name leave the others.
func (s *Store) label(attempts []attempt, l *record.Label, now time.Time, c *changes) (record.Labelled, error) {
	var before *record.Label
	at := -1 // which attempt has it
	for i := range attempts {
		had, err := s.labelOf(&attempts[i], l.Name)
		if err != nil {
			return 0, err
		}
		if had == nil {
			continue
		}
		if before == nil {
			before, at = had, i
		}
		if i > 0 {
			if err := s.unlabel(&attempts[i], l.Name, c); err != nil {
				return 0, err
			}
		}
	}
	what := l.Became(before)
	if what == record.Unchanged && at == 0 {
		return what, nil
	}
	var score sqlite.Value
	if l.Score != nil {
		score = *l.Score
	}
	last := &attempts[0]
	switch k := last.labelled(l.Name); {
	case at == 0:
		c.replaced[k] = true
	case l.Score != nil:
		if c.added[k] == nil {
			c.added[k] = newScored()
		}
		c.added[k].add(*l.Score)
	}
	return what, s.conn.Exec(sqlite.New("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		last.series, last.at, last.id, l.Name, text(string(l.Value)), score, l.ObservedBy(now).UnixMilli(), now.UnixMilli()))
}

// labelOf returns the label of a name that an attempt has; nil for none.
func (s *Store) labelOf(a *attempt, name string) (l *record.Label, err error) {
	err = s.conn.Query(context.Background(), sqlite.New("SELECT value, observed, score FROM labels WHERE series = ? AND at = ? AND id = ? AND name = ?", a.series, a.at, a.id, name), func(row []sqlite.Value) error {
		r := reader{row}
		l = new(record.Label)
		if value := r.text(); value != "" {
			l.Value = json.RawMessage(value)
		}
		l.Observed = time.UnixMilli(r.integer())
		if score, ok := r.next().(float64); ok {
			l.Score = &score
		}
		return nil
	})
	return l, err
}

func (s *Store) unlabel(a *attempt, name string, c *changes) error {
	c.replaced[a.labelled(name)] = true
	return s.conn.Exec(sqlite.New("DELETE FROM labels WHERE series = ? AND at = ? AND id = ? AND name = ?", a.series, a.at, a.id, name))
}

// rescore brings the sums of minutes up to date. What was only added to is added to,
// so that a label costs the same however many the minute has; what was replaced
// leaves no trace, not even a rounding error.
func (s *Store) rescore(c *changes) error {
	for k := range c.replaced {
		m := newScored()
		from := k.minute * record.Resolution.Milliseconds()
		err := s.conn.Query(context.Background(), sqlite.New("SELECT score FROM labels WHERE series = ? AND at >= ? AND at < ? AND name = ? AND score IS NOT NULL",
			k.series, from, from+record.Resolution.Milliseconds(), k.name), func(row []sqlite.Value) error {
			r := reader{row}
			m.add(r.float())
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.setScore(k, m); err != nil {
			return err
		}
		delete(c.added, k)
	}
	for k, sum := range c.added {
		err := s.conn.Query(context.Background(), sqlite.New("SELECT n, mean, m2, lo, hi FROM scores WHERE series = ? AND minute = ? AND name = ?", k.series, k.minute, k.name), func(row []sqlite.Value) error {
			r := reader{row}
			sum.Merge(sequential.Moments{N: r.integer(), Mean: r.float(), M2: r.float()})
			lo, known := r.next().(float64)
			if sum.lo, sum.hi = min(sum.lo, lo), max(sum.hi, r.float()); !known {
				sum.lo, sum.hi = math.NaN(), math.NaN() // which is NULL
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.setScore(k, sum); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) setScore(k labelled, m *scored) error {
	return s.conn.Exec(sqlite.New("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?)", k.series, k.minute, k.name, m.N, m.Mean, m.M2, m.lo, m.hi))
}
