package scyllarepo

import (
	"context"
	"slices"

	"sluice/internal/platform/cql"
	"sluice/internal/platform/repo"
)

// fill makes entries for columns of a kind that have none yet: those that were
// added to it, and all of a new kind, which has no records.
func (d *Driver) fill(ctx context.Context, s *repo.Schema) error {
	missing, err := d.unfilled(ctx, s)
	if err != nil || len(missing) == 0 {
		return err
	}
	tenants, err := d.stretchAll(ctx, entry{kind: s.Kind, field: byTenants, live: true}, span{}, 0)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		for _, live := range []bool{true, false} {
			for b := range buckets {
				if err := d.fillPartition(ctx, s, missing, entry{tenant: t.id, kind: s.Kind, live: live, bucket: b}); err != nil {
					return err
				}
			}
		}
	}
	for _, c := range missing {
		if err := d.query(ctx, `INSERT INTO filled_columns (kind, name, type) VALUES (?, ?, ?)`, s.Kind, c.Name, c.Type.String()).Exec(); err != nil {
			return err
		}
	}
	return nil
}

// unfilled returns the columns that are not known to be filled.
func (d *Driver) unfilled(ctx context.Context, s *repo.Schema) ([]repo.Column, error) {
	iter := d.query(ctx, `SELECT name, type FROM filled_columns WHERE kind = ?`, s.Kind).Iter()
	types := map[string]string{}
	var name, typ string
	for iter.Scan(&name, &typ) {
		types[name] = typ
	}
	if err := iter.Close(); err != nil {
		return nil, err
	}
	var out []repo.Column
	for _, c := range s.Columns {
		switch typ, there := types[c.Name]; {
		case !there:
			out = append(out, c)
		case typ != c.Type.String():
			return nil, cql.Misconfigured("%s of %s was of type %s and is %s now: give the new column another name", c.Name, s.Kind, typ, c.Type)
		}
	}
	return out, nil
}

// fillPartition goes through the entries by id of one partition. A record that
// changes meanwhile has had its entries made with the change.
func (d *Driver) fillPartition(ctx context.Context, s *repo.Schema, missing []repo.Column, partition entry) error {
	const page = 200
	added := map[string]bool{}
	for _, c := range missing {
		added[c.Name] = true
	}
	for at := (span{}); ; {
		entries, err := d.stretchAll(ctx, partition, at, page)
		if err != nil || len(entries) == 0 {
			return err
		}
		states, err := d.load(ctx, s, entries)
		if err != nil {
			return err
		}
		err = cql.Each(len(entries), func(i int) error {
			st := states[entries[i].id]
			if !st.found {
				return nil
			}
			return d.put(ctx, slices.DeleteFunc(st.entries(), func(e entry) bool { return !added[e.field] }), st.stamp)
		})
		if err != nil {
			return err
		}
		last := entries[len(entries)-1]
		at.from = place{last.value, last.id}.after()
	}
}
