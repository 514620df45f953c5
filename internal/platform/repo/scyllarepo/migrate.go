package scyllarepo

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/gocql/gocql"

	"sluice/internal/platform/repo"
)

//go:embed migrations/*.cql
var migrations embed.FS

// migration is a file of statements. It is never changed once it was released:
// what a store has had is known by its checksum.
type migration struct {
	name, checksum string
	statements     []string
}

// readMigrations returns the migrations in the order of their names.
func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.cql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	all := make([]migration, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		all[i] = migration{strings.TrimPrefix(name, "migrations/"), hex.EncodeToString(sum[:]), split(string(text))}
	}
	return all, nil
}

// split returns the statements of a file, without comments. No text in them has
// a semicolon or two dashes.
func split(text string) []string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "--")
		b.WriteString(strings.TrimSpace(code) + " ")
	}
	var out []string
	for s := range strings.SplitSeq(b.String(), ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// The tables that migrating needs itself.
const (
	makeLocks  = `CREATE TABLE IF NOT EXISTS schema_locks (name text PRIMARY KEY, owner text)`
	makeLedger = `CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, checksum text, applied_at timestamp)`
)

// Migrate implements repo.Driver. Of several processes one does the work while
// the others wait.
func (d *Driver) Migrate(ctx context.Context, schemas []*repo.Schema) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	all, err := readMigrations(migrations)
	if err != nil {
		return err
	}
	if err := d.defineLocks(ctx); err != nil {
		return translate(ctx, err)
	}
	known := make(map[string]*repo.Schema, len(schemas))
	for _, s := range schemas {
		c := *s
		c.Columns = slices.Clone(s.Columns)
		known[s.Kind] = &c
	}
	d.schemas.Store(&known)
	err = d.locked(ctx, func(ctx context.Context) error {
		if err := d.change(ctx, makeLedger); err != nil {
			return err
		}
		for _, m := range all {
			if err := d.apply(ctx, m); err != nil {
				return err
			}
		}
		for _, s := range schemas {
			if err := d.fill(ctx, known[s.Kind]); err != nil {
				return err
			}
		}
		return nil
	})
	return translate(ctx, err)
}

// defineLocks makes the table of the lock unless it is there. Two nodes that make
// it at the same moment might make two of the name: so it is looked for first.
func (d *Driver) defineLocks(ctx context.Context) error {
	var name string
	err := d.query(ctx, `SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_locks'`, d.at.keyspace).Consistency(gocql.LocalOne).Scan(&name)
	if errors.Is(err, gocql.ErrNotFound) {
		return d.change(ctx, makeLocks)
	}
	return err
}

// change changes the schema and waits until all nodes know.
func (d *Driver) change(ctx context.Context, text string) error {
	if err := d.session.Query(text).WithContext(ctx).Exec(); err != nil {
		return err
	}
	return d.session.AwaitSchemaAgreement(ctx)
}

// apply executes a migration, unless it was. Where it ends half way it is
// executed again: every statement says IF NOT EXISTS.
func (d *Driver) apply(ctx context.Context, m migration) error {
	var had string
	err := d.query(ctx, `SELECT checksum FROM schema_migrations WHERE name = ?`, m.name).Scan(&had)
	switch {
	case err == nil && had == m.checksum:
		return nil
	case err == nil:
		return misconfigured("the store had another form of migration %s: run the release that made it, or a later one", m.name)
	case !errors.Is(err, gocql.ErrNotFound):
		return err
	}
	for _, text := range m.statements {
		if err := d.change(ctx, text); err != nil {
			return err
		}
	}
	return d.query(ctx, `INSERT INTO schema_migrations (name, checksum, applied_at) VALUES (?, ?, ?)`, m.name, m.checksum, d.now()).Exec()
}
