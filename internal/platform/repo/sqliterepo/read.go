package sqliterepo

import (
	"context"
	"fmt"
	"strings"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Get implements repo.Reader.
func (d *Driver) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	t, err := d.tables.of(key.Kind)
	if err != nil {
		return repo.Record{}, err
	}
	var found repo.Record
	err = d.readers.Query(ctx, newStatement(t.get, key.Tenant, key.ID), func(row []value) (err error) {
		found, err = record(t.kind, t.columns, row)
		return err
	})
	if err == nil && found.Version == 0 {
		err = repo.ErrNotFound
	}
	return found, err
}

// Find implements repo.Reader.
func (d *Driver) Find(ctx context.Context, s *repo.Schema, q *repo.FindQuery) ([]repo.Record, error) {
	st, err := find(s, q)
	if err != nil {
		return nil, err
	}
	out := make([]repo.Record, 0, min(q.Limit, 64))
	err = d.readers.Query(ctx, st, func(row []value) error {
		r, err := record(s.Kind, s.Columns, row)
		out = append(out, r)
		return err
	})
	return out, err
}

// Summarise implements repo.Reader.
func (d *Driver) Summarise(ctx context.Context, s *repo.Schema, q *repo.SummaryQuery) ([]spec.Group, error) {
	st, types, err := summarise(s, q)
	if err != nil {
		return nil, err
	}
	var out []spec.Group
	err = d.readers.Query(ctx, st, func(row []value) error {
		g := spec.Group{Values: make([]spec.Value, len(types))}
		var err error
		if q.By != "" {
			if g.By, err = field(s.Columns[s.Index(q.By)].Type, row[0]); err != nil {
				return err
			}
		}
		for i, t := range types {
			if g.Values[i], err = field(t, row[i+1]); err != nil {
				return err
			}
		}
		out = append(out, g)
		return nil
	})
	return out, err
}

// messageColumns are those of a message in the outbox and in the history, in
// the order in which message reads them and insert binds them.
var messageColumns = []string{"message", "tenant", "kind", "id", "sequence", "stream", "type", "version", "time", "actor", "request", "correlation", "causation", "traceparent", "data"}

var (
	selectMessage = "SELECT " + strings.Join(messageColumns, ", ")
	selectHistory = selectMessage + " FROM history WHERE tenant = ? AND kind = ? AND id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
	insertHistory = fmt.Sprintf("INSERT INTO history (%s) VALUES (%s)", strings.Join(messageColumns, ", "), places(len(messageColumns)))
	eraseHistory  = "DELETE FROM history WHERE tenant = ? AND kind = ? AND id = ?"
)

// insert returns the statement that puts a message into the outbox.
func insert(m *repo.Message) statement {
	return newStatement(insertOutbox, m.ID, m.Tenant, m.Kind, m.Key.ID, m.Sequence, m.Stream, m.Type, int64(m.Version), micros(m.Time),
		m.Actor, m.Request, m.Correlation, m.Causation, m.TraceParent, []byte(m.Data))
}

func message(row []value) repo.Message {
	r := reader{row: row}
	return repo.Message{
		ID: r.text(), Key: repo.Key{Tenant: r.text(), Kind: r.text(), ID: r.text()}, Sequence: r.integer(), Stream: r.text(), Type: r.text(),
		Version: int(r.integer()), Time: r.time(), Actor: r.text(), Request: r.text(), Correlation: r.text(), Causation: r.text(), TraceParent: r.text(), Data: r.bytes(),
	}
}

// messages runs a statement that selects messages.
func (d *Driver) messages(ctx context.Context, s statement) ([]repo.Message, error) {
	var out []repo.Message
	err := d.readers.Query(ctx, s, func(row []value) error {
		out = append(out, message(row))
		return nil
	})
	return out, err
}

// History implements repo.Reader.
func (d *Driver) History(ctx context.Context, key repo.Key, after int64, limit int) ([]repo.Message, error) {
	out, err := d.messages(ctx, newStatement(selectHistory, key.Tenant, key.Kind, key.ID, after, int64(limit)))
	for i := range out {
		out[i].Keep = true
	}
	return out, err
}
