package cql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/gocql/gocql"

	"sluice/internal/platform/fault"
)

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
		all[i] = migration{strings.TrimPrefix(name, "migrations/"), hex.EncodeToString(sum[:]), Split(string(text))}
	}
	return all, nil
}

// Split returns the statements of a file, without comments. No text in them has
// a semicolon or two dashes.
func Split(text string) []string {
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

// migrateAttempts is how often a cluster may be too busy: several processes that begin at
// once contend for the lock.
const migrateAttempts = 5

// Migrate does what it has not done yet of the files migrations/*.cql, whose names are
// their own among those of all adapters of a keyspace, and then the rest. Of several
// processes one does the work while the others wait. All of it may be done again.
func (s *Session) Migrate(ctx context.Context, files fs.FS, rest func(context.Context) error) error {
	all, err := readMigrations(files)
	if err != nil {
		return err
	}
	me := gocql.TimeUUID().String() // one for all attempts: a lock whose answer was lost is its own
	for attempt := 1; ; attempt++ {
		err := Translate(ctx, s.migrate(ctx, me, all, rest))
		if !fault.Is(err, fault.Unavailable) || attempt == migrateAttempts || !BackOff(ctx, attempt+2) {
			return err
		}
	}
}

func (s *Session) migrate(ctx context.Context, me string, all []migration, rest func(context.Context) error) error {
	if err := s.defineLocks(ctx); err != nil {
		return err
	}
	return s.locked(ctx, me, func(ctx context.Context) error {
		if err := s.change(ctx, makeLedger); err != nil {
			return err
		}
		for _, m := range all {
			if err := s.apply(ctx, m); err != nil {
				return err
			}
		}
		return rest(ctx)
	})
}

// defineLocks makes the table of the lock unless it is there. Two nodes that make
// it at the same moment might make two of the name: so it is looked for first.
func (s *Session) defineLocks(ctx context.Context) error {
	var name string
	err := s.Repeat(ctx, `SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_locks'`, s.Keyspace).Consistency(gocql.LocalOne).Scan(&name)
	if errors.Is(err, gocql.ErrNotFound) {
		return s.change(ctx, makeLocks)
	}
	return err
}

// change changes the schema and waits until all nodes know.
func (s *Session) change(ctx context.Context, text string) error {
	if err := s.Query(text).WithContext(ctx).Exec(); err != nil {
		return err
	}
	return s.AwaitSchemaAgreement(ctx)
}

// apply executes a migration, unless it was. Where it ends half way it is
// executed again: every statement says IF NOT EXISTS.
func (s *Session) apply(ctx context.Context, m migration) error {
	var had string
	err := s.Repeat(ctx, `SELECT checksum FROM schema_migrations WHERE name = ?`, m.name).Scan(&had)
	switch {
	case err == nil && had == m.checksum:
		return nil
	case err == nil:
		return Misconfigured("the store had another form of migration %s: run the release that made it, or a later one", m.name)
	case !errors.Is(err, gocql.ErrNotFound):
		return err
	}
	for _, text := range m.statements {
		if err := s.change(ctx, text); err != nil {
			return err
		}
	}
	return s.Repeat(ctx, `INSERT INTO schema_migrations (name, checksum, applied_at) VALUES (?, ?, ?)`, m.name, m.checksum, s.now()).Exec()
}
