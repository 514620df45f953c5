package scyllarepo

import (
	"context"
	"errors"
	"maps"

	"github.com/gocql/gocql"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Rows of a partition that are asked for by their column part.
const (
	partState = "state"
	partMark  = "mark"
	partDone  = "done"
)

// state is a record as its row has it. Where found is false there is none, but
// an erased one may have left its stamp.
type state struct {
	repo.Record
	found  bool
	stamp  int64
	fields map[string][]byte
}

const stateColumns = `tenant, kind, id, version, sequence, created_at, created_by, updated_at, updated_by, deleted_at, expires_at, doc, fields, stamp`

const (
	selectState  = `SELECT ` + stateColumns + ` FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'state' AND ref = ''`
	selectStates = `SELECT ` + stateColumns + ` FROM aggregates WHERE tenant = ? AND kind = ? AND id IN ? AND part = 'state' AND ref = ''`
)

// scanner is a row of a gocql.Query or a gocql.Iter.
type scanner func(dest ...any) error

func scanState(scan scanner) (state, error) {
	var s state
	var version, stamp, created, updated, deleted, expires *int64
	err := scan(&s.Tenant, &s.Kind, &s.ID, &version, &s.Sequence, &created, &s.CreatedBy, &updated, &s.UpdatedBy, &deleted, &expires, &s.Doc, &s.fields, &stamp)
	if err != nil {
		return s, err
	}
	if stamp != nil {
		s.stamp = *stamp
	}
	if version != nil {
		s.found, s.Version = true, *version
	}
	s.CreatedAt, s.UpdatedAt, s.DeletedAt, s.ExpiresAt = fromMicros(created), fromMicros(updated), fromMicros(deleted), fromMicros(expires)
	return s, nil
}

// read returns the state of an aggregate, as of a quorum. A SERIAL one has
// waited for, or ended, every commit that was under way.
func (d *Driver) read(ctx context.Context, key repo.Key, serial bool) (state, error) {
	q := d.query(ctx, selectState, key.Tenant, key.Kind, key.ID)
	if serial {
		q = q.Consistency(d.session.Serial)
	}
	s, err := scanState(q.Scan)
	if errors.Is(err, gocql.ErrNotFound) {
		return state{Record: repo.Record{Key: key}}, nil
	}
	return s, cql.Translate(ctx, err)
}

// resolve sets the record's fields as its schema lists them. A record that was
// written before a column was added is found by what the column would be.
func (d *Driver) resolve(s *state, schema *repo.Schema) error {
	if schema == nil {
		return nil
	}
	s.Fields = make([]spec.Value, len(schema.Columns))
	for i, c := range schema.Columns {
		v, ok := decode(c.Type, s.fields[c.Name])
		if _, there := s.fields[c.Name]; !there || !ok {
			return refill(s, schema)
		}
		s.Fields[i] = v
	}
	return nil
}

func refill(s *state, schema *repo.Schema) error {
	if schema.Refill == nil {
		return fault.New(fault.Internal, "one of the %s lacks a column that was added later, and nothing computes it", s.Kind)
	}
	if err := schema.Refill(&s.Record); err != nil {
		return err
	}
	all := maps.Clone(s.fields)
	if all == nil {
		all = map[string][]byte{}
	}
	for i, c := range schema.Columns {
		all[c.Name] = encode(s.Fields[i])
	}
	s.fields = all
	return nil
}

// Get implements repo.Reader.
func (d *Driver) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	if err := d.usable(ctx); err != nil {
		return repo.Record{}, err
	}
	s, err := d.read(ctx, key, false)
	if err != nil {
		return repo.Record{}, err
	}
	if !s.found {
		return repo.Record{}, repo.ErrNotFound
	}
	return s.Record, d.resolve(&s, d.schema(key.Kind))
}

// History implements repo.Reader.
func (d *Driver) History(ctx context.Context, key repo.Key, after int64, limit int) ([]repo.Message, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, nil
	}
	iter := d.query(ctx, `SELECT message, data FROM aggregates WHERE tenant = ? AND kind = ? AND id = ? AND part = 'hist' AND ref > ? LIMIT ?`,
		key.Tenant, key.Kind, key.ID, histRef(max(after, 0)), limit).Iter()
	var out []repo.Message
	var head, data []byte
	for iter.Scan(&head, &data) {
		m, err := decodeMessage(head, data, true)
		if err != nil {
			return nil, errors.Join(err, iter.Close())
		}
		out = append(out, m)
		head, data = nil, nil
	}
	return out, cql.Translate(ctx, iter.Close())
}
