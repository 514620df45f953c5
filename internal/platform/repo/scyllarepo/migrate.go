package scyllarepo

import (
	"context"
	"embed"
	"slices"

	"sluice/internal/platform/repo"
)

//go:embed migrations/*.cql
var migrations embed.FS

// Migrate implements repo.Driver. Of several processes one does the work while
// the others wait.
func (d *Driver) Migrate(ctx context.Context, schemas []*repo.Schema) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	known := make(map[string]*repo.Schema, len(schemas))
	for _, s := range schemas {
		c := *s
		c.Columns = slices.Clone(s.Columns)
		known[s.Kind] = &c
	}
	d.schemas.Store(&known)
	return d.session.Migrate(ctx, migrations, func(ctx context.Context) error {
		for _, s := range schemas {
			if err := d.fill(ctx, known[s.Kind]); err != nil {
				return err
			}
		}
		return nil
	})
}
