package sqliterecord

import (
	"bytes"
	"context"
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

// Label implements record.Store, in one transaction.
func (s *Store) Label(ctx context.Context, tenant string, labels []record.Label, now time.Time) (out []record.Labelled, err error) {
	err = s.write(ctx, func() error {
		out = make([]record.Labelled, len(labels))
		changed := map[labelled]bool{}
		for i := range labels {
			l := &labels[i]
			p, found, err := s.prediction(tenant, l)
			if err != nil {
				return err
			}
			if found != record.Added {
				out[i] = found
				continue
			}
			if out[i], err = s.label(p, l, now); err != nil {
				return err
			}
			if out[i] != record.Unchanged {
				changed[labelled{p.series, p.at / record.Resolution.Milliseconds(), l.Name}] = true
			}
		}
		for l := range changed {
			if err := s.rescore(l); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// prediction is where labels of one belong.
type prediction struct {
	series, at int64
	id         []byte
}

// prediction finds the one that a label is about: its last attempt. It returns
// Added where there is one.
func (s *Store) prediction(tenant string, l *record.Label) (p prediction, found record.Labelled, err error) {
	q := new(query)
	q.add("SELECT series, at, id FROM entries WHERE tenant = (SELECT no FROM tenants WHERE name = ?)", tenant)
	if q.single(&record.Query{Filter: record.Filter{Tenant: tenant}, ID: l.ID, ClientRef: l.ClientRef}); l.ID.IsZero() && l.ClientRef == "" {
		return p, record.Unknown, nil
	}
	q.add(" ORDER BY attempt DESC, at DESC LIMIT 1000")
	found = record.Unknown
	err = s.conn.Query(context.Background(), q.finish(), func(row []sqlite.Value) error {
		r := reader{row}
		series, at, id := r.integer(), r.integer(), bytes.Clone(r.bytes())
		switch {
		case found == record.Unknown:
			p, found = prediction{series, at, id}, record.Added
		case !bytes.Equal(id, p.id):
			found = record.Ambiguous
		}
		return nil
	})
	return p, found, err
}

// label notes what turned out about a prediction.
func (s *Store) label(p prediction, l *record.Label, now time.Time) (record.Labelled, error) {
	var score sqlite.Value
	if l.Score != nil {
		score = *l.Score
	}
	what := record.Added
	err := s.conn.Query(context.Background(), sqlite.New("SELECT value IS ? AND score IS ? FROM labels WHERE series = ? AND at = ? AND id = ? AND name = ?",
		text(string(l.Value)), score, p.series, p.at, p.id, l.Name), func(row []sqlite.Value) error {
		if what = record.Replaced; row[0] == int64(1) {
			what = record.Unchanged
		}
		return nil
	})
	if err != nil || what == record.Unchanged {
		return what, err
	}
	return what, s.conn.Exec(sqlite.New("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		p.series, p.at, p.id, l.Name, text(string(l.Value)), score, l.Observed.UnixMilli(), now.UnixMilli()))
}

// rescore makes the sums of a minute's labels anew, so that what was replaced leaves
// no trace in them, not even a rounding error.
func (s *Store) rescore(l labelled) error {
	var m sequential.Moments
	from := l.minute * record.Resolution.Milliseconds()
	err := s.conn.Query(context.Background(), sqlite.New("SELECT score FROM labels WHERE series = ? AND at >= ? AND at < ? AND name = ? AND score IS NOT NULL",
		l.series, from, from+record.Resolution.Milliseconds(), l.name), func(row []sqlite.Value) error {
		r := reader{row}
		m.Add(r.float())
		return nil
	})
	if err != nil {
		return err
	}
	return s.conn.Exec(sqlite.New("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)", l.series, l.minute, l.name, m.N, m.Mean, m.M2))
}
